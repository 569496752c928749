"""Progress bars for long work: by rich on terminals, by tqdm in notebooks, and none elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hecompile.progress import Progress, Watcher

__all__ = ["RequestBar", "is_shown", "watching"]

SHOWN_AFTER_S = 1.0  # seconds after which a call shows a bar


def _in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook, not IPython in a terminal."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return type(shell).__name__ == "ZMQInteractiveShell"


def is_shown(progress: bool | None) -> bool:
    """Return whether to show a bar. With None, it is shown if stderr is a terminal or this is a notebook."""
    return _in_notebook() or sys.stderr.isatty() if progress is None else progress


@contextmanager
def watching(progress: bool | Watcher | None = None) -> Iterator[Watcher | None]:
    """A context that gives the function to call with every `Progress`, or None if nothing is to be shown.

    Args:
        progress: True shows a bar, False none, and None one on a terminal or in a notebook. A function is called instead.
    """
    if callable(progress):
        yield progress
    elif not is_shown(progress):
        yield None
    elif _in_notebook():
        with _notebook_bars() as watcher:
            yield watcher
    else:
        with _terminal_bars() as watcher:
            yield watcher


@contextmanager
def _terminal_bars() -> Iterator[Watcher]:
    from rich import progress
    from rich.console import Console

    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn())
    left = (progress.TimeElapsedColumn(), progress.TimeRemainingColumn(), progress.TextColumn("left"))
    with progress.Progress(*columns, *left, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, progress.TaskID] = {}

        def show(state: Progress) -> None:
            _end_others(tasks, state, bars.remove_task)
            if state.work not in tasks:
                tasks[state.work] = bars.add_task(state.work, total=state.total)
            bars.update(tasks[state.work], description=str(state), completed=state.done, total=state.total)

        yield show


@contextmanager
def _notebook_bars() -> Iterator[Watcher]:
    from tqdm.auto import tqdm

    bars: dict[str, Any] = {}

    def show(state: Progress) -> None:
        _end_others(bars, state, lambda bar: bar.close())
        if state.work not in bars:
            bars[state.work] = tqdm(total=state.total, leave=False)
        bar = bars[state.work]
        bar.set_description(str(state), refresh=False)
        bar.n = state.done
        bar.refresh()

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()


def _end_others(bars: dict[str, Any], state: Progress, end: Callable[[Any], None]) -> None:
    """Remove all bars except the first, which is that of the whole work, and the one of `state`."""
    for name in [name for name in list(bars)[1:] if name != state.work]:
        end(bars.pop(name))


class RequestBar:
    """The bar of one call of a model, with its requests and bytes so far. It appears after a second.

    It is made by tqdm also on terminals, because diffusers pipelines show their steps by tqdm, which keeps several bars apart.
    """

    def __init__(self, requests: int) -> None:
        self._requests, self._started, self._done, self._bar = requests, time.monotonic(), 0, None

    def step(self, byte_count: int) -> None:
        """Count one more answered request. `byte_count` is the traffic of the call so far, both ways together."""
        self._done += 1
        if self._bar is None and time.monotonic() - self._started > SHOWN_AFTER_S:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=self._requests, desc="requests", leave=False)
        if self._bar is not None:
            self._bar.n = self._done
            self._bar.set_postfix_str(f"{byte_count / 1e6:.1f} MB")

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
