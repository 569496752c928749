"""The sizes of what travels in a simulation of `ckks`."""

from __future__ import annotations

from hecompile.backends.ckks.document import SlotDocument

__all__ = ["simulated_request_bytes"]


def simulated_request_bytes(document: SlotDocument, batch: int) -> int:
    """Bytes of a request: a row, then the slots of every upload. Raises `ProtocolError` for a batch that is too large."""
    document.judge_batch(batch)
    return 8 + 8 * batch * len(document.body.uploads) * document.body.program.ring.slots
