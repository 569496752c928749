"""The commands, one function each. `compile-model` is `hecompile compile` by its own name."""

from __future__ import annotations

import sys
from collections import UserDict
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from hecompile.cli.interruptions import own_exit_status
from hecompile.cli.running import run
from hecompile.errors import needing

__all__ = ["COMMANDS", "app", "compile_model", "main"]

# module, function, and the extra that brings what the base install has not
COMMANDS = {
    "compile": ("hecompile.cli.compiling", "compile_command", "compile"),
    "compile-sampler": ("hecompile.cli.compiling", "compile_sampler_command", "compile"),
    "inspect": ("hecompile.cli.inspecting", "inspect", ""),
    "plan": ("hecompile.cli.inspecting", "plan", "compile"),
    "measure-machine": ("hecompile.cli.inspecting", "measure_machine", "compile"),
    "serve": ("hecompile.cli.artifacts", "serve", ""),
    "sample": ("hecompile.cli.artifacts", "sample", "client"),
    "passes": ("hecompile.cli.listing", "passes", "compile"),
    "doctor": ("hecompile.cli.listing", "doctor", ""),
}


class _Lazy(UserDict[str, Any]):
    """The commands by name. One is imported when it is asked for, so that a server's process loads no compiler."""

    def __getitem__(self, name: str) -> Any:
        module, function, extra = self.data[name]
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        found = getattr(import_module(module), function)
        alone.command(name)(_needing(name, extra, found) if extra else found)
        return get_command(alone)


def _needing(name: str, extra: str, command: Callable[..., None]) -> Callable[..., None]:
    """The same command, which tells the extra that is missing instead of the package."""

    @wraps(command)
    def told(*args: Any, **options: Any) -> None:
        with needing(f"hecompile {name}", extra):
            command(*args, **options)

    return told


class _Commands(TyperGroup):
    """The group of `COMMANDS`."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Lazy(COMMANDS)

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)


def _group() -> None:
    """Nothing is to be done before a command."""


app = typer.Typer(
    cls=_Commands, callback=_group, add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False
)


def main() -> None:
    """The `hecompile` command."""
    with own_exit_status():
        run(app)


def compile_model() -> None:
    """The `compile-model` command."""
    sys.argv.insert(1, "compile")
    with own_exit_status():
        run(app)
