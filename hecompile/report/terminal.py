"""Where commands print for people: as wide as their terminal, and uncut into pipes and files."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["GAP", "plain_table", "terminal"]

UNCUT = 10_000  # columns of what is no terminal
GAP = 3  # columns between two of a table


def terminal() -> Console:
    """A console for standard output, in which numbers and brackets mean nothing special."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else UNCUT)


def plain_table(title: str, columns: tuple[str, ...]) -> Table:
    """A table with a heading at its left and lines under the names of its columns; all but the first are of numbers."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, title_style="bold")
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", no_wrap=place > 0)
    return table
