"""The type of bytes that are passed on without being copied."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Buffer", "total_bytes"]

Buffer = bytes | bytearray | memoryview


def total_bytes(parts: Sequence[Buffer]) -> int:
    """Return the number of bytes in all parts together, also for views whose items are wider than a byte."""
    return sum(part.nbytes if isinstance(part, memoryview) else len(part) for part in parts)
