"""What commands print: text for people, or one JSON object."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

__all__ = ["Json", "print_json", "say"]

Json = Annotated[bool, typer.Option("--json", help="print one JSON object instead of text")]


def say(text: str) -> None:
    """A line for people."""
    from rich.console import Console

    Console(highlight=False).print(text, markup=False)


def print_json(document: object) -> None:
    """The object, on a line of its own."""
    sys.stdout.write(json.dumps(document, default=str) + "\n")
