"""What commands print: text for people, or one JSON object."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

__all__ = ["Json", "print_json", "rows", "say"]

Json = Annotated[bool, typer.Option("--json", help="print one JSON object instead of text")]


def say(text: str) -> None:
    """A line for people."""
    from rich.console import Console

    Console(highlight=False).print(text, markup=False)


def rows(pairs: Sequence[tuple[str, str]]) -> None:
    """A line for each name with a sentence about it, the sentences in a column."""
    width = max(len(name) for name, _ in pairs)
    sys.stdout.writelines(f"{name:<{width}}  {sentence}\n" for name, sentence in pairs)


def print_json(document: object) -> None:
    """The object, on a line of its own."""
    sys.stdout.write(json.dumps(document, default=str) + "\n")
