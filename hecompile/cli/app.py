"""The table of commands, and the two programs that run them: `hecompile`, and `compile-model` for `hecompile compile`."""

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

ABOUT = "Run diffusion models on a server that sees only ciphertexts. `compile-model` does the same as `hecompile compile`."

# module, function, and the extra (`pip install 'hecompile[...]'`) that the command needs beside the base install
COMMANDS = {
    "compile": ("hecompile.cli.compiling", "compile_command", "compile"),
    "compile-sampler": ("hecompile.cli.compiling", "compile_sampler_command", "compile"),
    "inspect": ("hecompile.cli.inspecting", "inspect", ""),
    "plan": ("hecompile.cli.planning", "plan", "compile"),
    "measure-machine": ("hecompile.cli.inspecting", "measure_machine", "compile"),
    "serve": ("hecompile.cli.serving", "serve", ""),
    "sample": ("hecompile.cli.sampling", "sample", "client"),
    "demo": ("hecompile.cli.demonstrating", "demo", "models"),
    "new": ("hecompile.cli.creating", "new", "compile"),
    "passes": ("hecompile.cli.listing", "passes", "compile"),
    "doctor": ("hecompile.cli.listing", "doctor", ""),
}


def _show_version(wanted: bool) -> None:
    """Print the version and exit, if `--version` was given."""
    if wanted:
        from hecompile.version import __version__

        typer.echo(f"hecompile {__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")]


class _Command(TyperCommand):
    """A command whose usage line shows arguments as `SOURCE`, as other programs do, not as `{source}`."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [piece.strip("{}").upper() for piece in super().collect_usage_pieces(ctx)]


class _LazyCommands(UserDict[str, Any]):
    """The commands by name. A command is imported when it is used, so that the process of a server loads no compiler."""

    def __getitem__(self, name: str) -> Any:
        single = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        single.command(name, cls=_Command)(_function_of(name, f"hecompile {name}"))
        return get_command(single)


def _function_of(name: str, shown: str) -> Callable[..., None]:
    """Return the function of a command. A missing package is reported as the extra to install, for the command as the user called
    it (`shown`)."""
    module, function, extra = COMMANDS[name]
    command: Callable[..., None] = getattr(import_module(module), function)
    if not extra:
        return command

    @wraps(command)
    def reporting_missing_extra(*args: Any, **options: Any) -> None:
        with needing(shown, extra):
            command(*args, **options)

    return reporting_missing_extra


class _Commands(TyperGroup):
    """The group of all commands in `COMMANDS`."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _LazyCommands(COMMANDS)

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)


def _group(version: Version = False) -> None:
    """Do nothing before a command; `--version` is handled by its own callback."""


app = typer.Typer(cls=_Commands, callback=_group, no_args_is_help=True, help=ABOUT, pretty_exceptions_enable=False)


def _compile_model() -> typer.Typer:
    """Return `hecompile compile` as a program of its own, which also has `--version`."""
    command = _function_of("compile", "compile-model")
    signature = inspect.signature(command)
    version = inspect.Parameter("version", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Version)

    @wraps(command)
    def without_version(*args: Any, version: bool, **options: Any) -> None:
        command(*args, **options)

    parameters = [*signature.parameters.values(), version]
    without_version.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    without_version.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": None}
    program = typer.Typer(pretty_exceptions_enable=False)
    program.command("compile-model", cls=_Command)(without_version)
    return program


def main() -> None:
    """Run the `hecompile` command."""
    with own_exit_status():
        run(partial(app, prog_name="hecompile"))


def compile_model() -> None:
    """Run the `compile-model` command."""
    with own_exit_status():
        run(lambda: _compile_model()(prog_name="compile-model"))
