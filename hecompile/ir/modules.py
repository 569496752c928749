"""Which module of the user's network each piece of a plan came from, with its size: for people alone, nothing is decided by it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from hecompile.errors import ProtocolError

__all__ = ["MOST_MODULES", "ModuleWork", "printable_path"]

MOST_MODULES, MOST_SHAPE, MOST_WORK = 1 << 16, 8, 1 << 53
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]"
)  # control characters, those of direction and those without width too
_MOST_PATH, _REGION, _OPERATION = 400, re.compile(r"[A-Za-z0-9_]{1,64}"), re.compile(r"[A-Za-z0-9_]{1,64}")
_BATCHES = re.compile(r"([1-9][0-9]{0,5})?B")


def printable_path(path: str) -> str:
    """Return a module's path as it may be kept: at most 400 characters, each control character replaced by `?`."""
    return _UNPRINTABLE.sub("?", path)[:_MOST_PATH]


@dataclass(frozen=True)
class ModuleWork:
    """What one module computes within one region of a plan, at batch one.

    Attributes:
        region: the region's name.
        path: dotted path of the module in the user's network; empty for what belongs to no module.
        operations: names of its operations in order, each once.
        layers: how many of them multiply by constant weights.
        shape: of the last value that it makes; dimensions are integers, or `"B"`, `"4B"` for multiples of the batch.
        macs: multiply-adds, as a model without encryption has them.
        entries: numbers that its operations compute; those that are only moved or converted are not counted.

    Raises:
        ProtocolError: for anything else than the above.
    """

    region: str
    path: str
    operations: tuple[str, ...]
    layers: int
    shape: tuple[int | str, ...]
    macs: int
    entries: int

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise ProtocolError(f"modules: a record of {self.path[:60]!r}: {problem}")

    def _problems(self) -> Iterator[str]:
        if not _REGION.fullmatch(self.region):
            yield "its region's name is none"
        if len(self.path) > _MOST_PATH or _UNPRINTABLE.search(self.path):
            yield "its path cannot be printed"
        if len(self.operations) > 100 or not all(_OPERATION.fullmatch(name) for name in self.operations):
            yield "its operations have names that are none"
        if len(self.shape) > MOST_SHAPE or not all(_is_dimension(size) for size in self.shape):
            yield "its shape is none"
        if not all(type(count) is int and 0 <= count <= MOST_WORK for count in (self.layers, self.macs, self.entries)):
            yield "its counts are out of range"


def _is_dimension(size: int | str) -> bool:
    if isinstance(size, str):
        return _BATCHES.fullmatch(size) is not None
    return type(size) is int and 1 <= size <= MOST_WORK
