"""The commands that list the compiler's passes and describe this machine: `hecompile passes` and `hecompile doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hecompile.cli.console import Json, print_json, rows
from hecompile.cli.flags import completing

__all__ = ["doctor", "passes"]


def _backends() -> tuple[str, ...]:
    """Return the names of backends, which take long to import."""
    from hecompile.backends.registry import model_backends

    return model_backends()


def passes(
    backend: Annotated[
        str,
        typer.Option(
            help="list the passes for this backend: bfv, clear, ckks, concrete, ...; each lowers its regions in its own way",
            autocompletion=completing(_backends),
        ),
    ] = "bfv",
    as_json: Json = False,
) -> None:
    """List the compiler's passes in order, with what each does; then passes of other packages, which run only if asked for."""
    from hecompile.compiler import pipeline
    from hecompile.installed_passes import installed_passes
    from hecompile.options import CompileOptions

    in_order = pipeline(CompileOptions(backend=backend), Path("artifact"))
    if as_json:
        document = {"backend": backend, "passes": [{"name": step.name, "help": step.help} for step in in_order]}
        print_json(document | {"installed": {name: point.value for name, point in installed_passes().items()}})
        return
    rows([(step.name, step.help) for step in in_order])
    if others := installed_passes():
        rows([(name, f"only with --passes {name}, from {point.value}") for name, point in others.items()])


def doctor(as_json: Json = False) -> None:
    """Show versions, CPU features, a self-test of the integer product, and what is missing."""
    from hecompile.report.doctor import examine, told

    findings = examine()
    if as_json:
        print_json(findings)
    else:
        rows(list(told(findings)), folds=True)
    if not findings["ok"]:
        raise typer.Exit(1)
