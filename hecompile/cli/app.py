"""The commands, one function each. `compile-model` is `hecompile compile` by its own name."""

from __future__ import annotations

import sys

import typer

from hecompile.cli.artifacts import sample, serve
from hecompile.cli.compiling import compile_command, compile_sampler_command
from hecompile.cli.inspecting import inspect, measure_machine, plan
from hecompile.cli.interruptions import own_exit_status
from hecompile.cli.listing import doctor, passes
from hecompile.cli.running import run

__all__ = ["app", "compile_model", "main"]

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, pretty_exceptions_enable=False)
app.command("compile")(compile_command)
app.command("compile-sampler")(compile_sampler_command)
app.command()(inspect)
app.command()(plan)
app.command("measure-machine")(measure_machine)
app.command()(serve)
app.command()(sample)
app.command()(passes)
app.command()(doctor)


def main() -> None:
    """The `hecompile` command."""
    with own_exit_status():
        run(app)


def compile_model() -> None:
    """The `compile-model` command."""
    sys.argv.insert(1, "compile")
    with own_exit_status():
        run(app)
