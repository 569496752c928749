"""The sizes of requests and replies under `clear`."""

from __future__ import annotations

from hecompile.backends.bfv.packing import Layout
from hecompile.backends.bfv.program import LayerProgram

__all__ = ["WORD_BYTES", "reply_words", "upload_bytes"]

WORD_BYTES = 8


def upload_bytes(layer: LayerProgram, batch: int) -> int:
    """Bytes of a layer's polynomials in a request."""
    layout = layer.layout(batch)
    return WORD_BYTES * layout.blocks * layout.uploads * layout.packing.dimension


def reply_words(layout: Layout) -> int:
    """How many integers a layer's part of a reply has."""
    return layout.blocks * layout.answers * layout.gather_count
