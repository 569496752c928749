"""The sizes of what travels in a simulation of `ckks`."""

from __future__ import annotations

from hecompile.backends.ckks.document import Document

__all__ = ["simulated_request_bytes"]


def simulated_request_bytes(document: Document, batch: int) -> int:
    """Bytes of a request: a row, then the slots of every upload. Raises `ProtocolError` for a batch that is too large."""
    document.judge_batch(batch)
    return 8 + 8 * batch * len(document.uploads) * document.program.ring.slots
