"""The output of commands: text for people, or one JSON object."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hecompile.progress import Progress, Watcher

__all__ = ["Json", "print_json", "progress_bar", "rows", "say"]

Json = Annotated[bool, typer.Option("--json", help="print one JSON object instead of text")]


def say(text: str) -> None:
    """Print a line of text for people."""
    from hecompile.report.terminal import terminal

    terminal().print(text)


@contextmanager
def progress_bar() -> Iterator[Watcher | None]:
    """Give a function that shows how far work has come and how long it will still take; None if stderr is not a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich import progress
    from rich.console import Console

    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.MofNCompleteColumn())
    left = (progress.TimeRemainingColumn(), progress.TextColumn("left"))
    with progress.Progress(*columns, *left, console=Console(stderr=True), transient=True) as bar:
        tasks: dict[str, progress.TaskID] = {}

        def show(state: Progress) -> None:
            if state.work not in tasks:
                for task in tasks.values():
                    bar.remove_task(task)
                tasks.clear()
                tasks[state.work] = bar.add_task(state.work, total=state.total)
            bar.update(tasks[state.work], completed=state.done, total=state.total)

        yield show


def rows(pairs: Sequence[tuple[str, str]], folds: bool = False) -> None:
    """Print a line per name with a sentence about it, the sentences aligned in a column. `folds` breaks them at the terminal's
    width."""
    width = max(len(name) for name, _ in pairs)
    columns = shutil.get_terminal_size().columns if folds and sys.stdout.isatty() else 0
    for name, sentence in pairs:
        lines = textwrap.wrap(sentence, max(columns - width - 2, 20), break_on_hyphens=False) if columns else [sentence]
        for place, line in enumerate(lines or [""]):
            sys.stdout.write(f"{'' if place else name:<{width}}  {line}\n")


def print_json(document: object) -> None:
    """Print the object as JSON, on one line."""
    sys.stdout.write(json.dumps(document, default=str) + "\n")
