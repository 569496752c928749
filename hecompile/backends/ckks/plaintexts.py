"""Encoded plaintexts that a server keeps between calls."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

__all__ = ["KEPT_BYTES", "Plaintexts"]

KEPT_BYTES = 128 << 20  # of the encoded plaintexts of one region


class Plaintexts:
    """A cache of encoded plaintexts: beyond `limit_bytes` it drops the least recently used ones."""

    def __init__(self, limit_bytes: int = KEPT_BYTES) -> None:
        self._limit, self._bytes = limit_bytes, 0
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, key: Hashable) -> Any | None:
        """The plaintext kept under `key`, or None."""
        entry = self._kept.get(key)
        if entry is None:
            return None
        self._kept.move_to_end(key)
        return entry[0]

    def put(self, key: Hashable, plain: Any, size: int) -> None:
        """Keep a plaintext of `size` bytes under `key`, and drop old ones if there are too many bytes."""
        self._kept[key] = (plain, size)
        self._bytes += size
        while self._bytes > self._limit:
            self._bytes -= self._kept.popitem(last=False)[1][1]
