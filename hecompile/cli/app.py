"""The commands, one function each. `compile-model` is `hecompile compile` by its own name."""

from __future__ import annotations

import inspect
from collections import UserDict
from collections.abc import Callable
from functools import partial, wraps
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from hecompile.cli.interruptions import own_exit_status
from hecompile.cli.running import run
from hecompile.errors import needing

__all__ = ["COMMANDS", "app", "compile_model", "main"]

ABOUT = "Run diffusion models on a server that sees ciphertexts only. `compile-model` is `hecompile compile` by its own name."

# module, function, and the extra that brings what the base install has not
COMMANDS = {
    "compile": ("hecompile.cli.compiling", "compile_command", "compile"),
    "compile-sampler": ("hecompile.cli.compiling", "compile_sampler_command", "compile"),
    "inspect": ("hecompile.cli.inspecting", "inspect", ""),
    "plan": ("hecompile.cli.planning", "plan", "compile"),
    "measure-machine": ("hecompile.cli.inspecting", "measure_machine", "compile"),
    "serve": ("hecompile.cli.serving", "serve", ""),
    "sample": ("hecompile.cli.sampling", "sample", "client"),
    "passes": ("hecompile.cli.listing", "passes", "compile"),
    "doctor": ("hecompile.cli.listing", "doctor", ""),
}


def _show_version(wanted: bool) -> None:
    """Print the version and end, where it was asked for."""
    if wanted:
        from hecompile.version import __version__

        typer.echo(f"hecompile {__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")]


class _Command(TyperCommand):
    """A command whose usage line names arguments as other programs do: `SOURCE`, not `{source}`."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.strip("{}").upper() for piece in super().collect_usage_pieces(ctx)]


class _Lazy(UserDict[str, Any]):
    """The commands by name. One is imported when it is asked for, so that a server's process loads no compiler."""

    def __getitem__(self, name: str) -> Any:
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        alone.command(name, cls=_Command)(_function_of(name, f"hecompile {name}"))
        return get_command(alone)


def _function_of(name: str, shown: str) -> Callable[..., None]:
    """The function of a command, which names the extra that is missing instead of the package. `shown`: as the user calls it."""
    module, function, extra = COMMANDS[name]
    command: Callable[..., None] = getattr(import_module(module), function)
    if not extra:
        return command

    @wraps(command)
    def told(*args: Any, **options: Any) -> None:
        with needing(shown, extra):
            command(*args, **options)

    return told


class _Commands(TyperGroup):
    """The group of `COMMANDS`."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Lazy(COMMANDS)

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)


def _group(version: Version = False) -> None:
    """Nothing is to be done before a command."""


app = typer.Typer(cls=_Commands, callback=_group, no_args_is_help=True, help=ABOUT, pretty_exceptions_enable=False)


def _alone() -> typer.Typer:
    """`hecompile compile` as a command of its own."""
    command = _function_of("compile", "compile-model")
    signature = inspect.signature(command)
    version = inspect.Parameter("version", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Version)

    @wraps(command)
    def told(*args: Any, version: bool, **options: Any) -> None:
        command(*args, **options)

    parameters = [*signature.parameters.values(), version]
    told.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    told.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": None}
    alone = typer.Typer(pretty_exceptions_enable=False)
    alone.command("compile-model", cls=_Command)(told)
    return alone


def main() -> None:
    """The `hecompile` command."""
    with own_exit_status():
        run(partial(app, prog_name="hecompile"))


def compile_model() -> None:
    """The `compile-model` command."""
    with own_exit_status():
        run(lambda: _alone()(prog_name="compile-model"))
