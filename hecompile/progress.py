"""How far long work has come, told to whoever watches it. Work tells, and does not know whether anybody does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["Progress", "Watcher", "tell", "watched"]


@dataclass(frozen=True)
class Progress:
    """So many parts of the work of this name are done, of `total`. `part` is the name of the one that is being done."""

    work: str
    done: int
    total: int
    part: str = ""

    def __str__(self) -> str:
        return f"{self.work}: {self.part}" if self.part else self.work


Watcher = Callable[[Progress], None]

_WATCHER: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watched(watcher: Watcher | None) -> Iterator[None]:
    """Within the block `watcher` is called with what `tell` is told, by work of this thread."""
    token = _WATCHER.set(watcher)
    try:
        yield
    finally:
        _WATCHER.reset(token)


def tell(work: str, done: int, total: int, part: str = "") -> None:
    """Tell the watcher, if there is one."""
    watcher = _WATCHER.get()
    if watcher is not None:
        watcher(Progress(work, done, total, part))
