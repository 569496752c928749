"""Reports the progress of long work. Code that works calls `tell`, whether or not anybody watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["Progress", "Watcher", "tell", "watched"]


@dataclass(frozen=True)
class Progress:
    """How much of the work named `work` is done: `done` parts of `total`. `part` names the part that is being done."""

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
    """A context in which `watcher` is called with every `Progress` that this thread tells."""
    token = _WATCHER.set(watcher)
    try:
        yield
    finally:
        _WATCHER.reset(token)


def tell(work: str, done: int, total: int, part: str = "") -> None:
    """Report progress to the watcher of this thread, if there is one."""
    watcher = _WATCHER.get()
    if watcher is not None:
        watcher(Progress(work, done, total, part))
