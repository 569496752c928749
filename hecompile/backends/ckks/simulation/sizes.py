"""Sizes of requests under `ckks_clear`."""

from __future__ import annotations

from hecompile.backends.ckks.document import SlotDocument

__all__ = ["simulated_request_bytes"]


def simulated_request_bytes(document: SlotDocument, batch: int) -> int:
    """Bytes of a request: the row of the tables, then the slots of every upload. Raises `ProtocolError` for too large a batch."""
    document.check_batch(batch)
    return 8 + 8 * batch * len(document.body.uploads) * document.body.program.ring.slots
