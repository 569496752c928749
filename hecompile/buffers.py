"""Bytes that are handed on without being copied or joined."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Buffer", "total_bytes"]

Buffer = bytes | bytearray | memoryview


def total_bytes(parts: Sequence[Buffer]) -> int:
    """The bytes of all parts. Views of wider items are counted in bytes, too."""
    return sum(part.nbytes if isinstance(part, memoryview) else len(part) for part in parts)
