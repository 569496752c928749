"""The commands that list what there is: the compiler's passes, and what this machine has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hecompile.cli.console import Json, print_json, rows
from hecompile.cli.flags import completing

__all__ = ["doctor", "passes"]


def _backends() -> tuple[str, ...]:
    """Names of backends, which take long to import."""
    from hecompile.backends.registry import model_backends

    return model_backends()


def passes(
    backend: Annotated[
        str,
        typer.Option(
            help="whose passes: bfv, clear, ckks, concrete, ...; they differ where a backend lowers its regions",
            autocompletion=completing(_backends),
        ),
    ] = "bfv",
    as_json: Json = False,
) -> None:
    """List the passes of the compiler in their order, with what each does; then those of other packages, which run if asked for."""
    from hecompile.compiler import pipeline
    from hecompile.installed_passes import installed_passes
    from hecompile.options import CompileOptions

    found = pipeline(CompileOptions(backend=backend), Path("artifact"))
    if as_json:
        document = {"backend": backend, "passes": [{"name": each.name, "help": each.help} for each in found]}
        print_json(document | {"installed": {name: point.value for name, point in installed_passes().items()}})
        return
    rows([(each.name, each.help) for each in found])
    if others := installed_passes():
        rows([(name, f"only with --passes {name}, from {point.value}") for name, point in others.items()])


def doctor(as_json: Json = False) -> None:
    """Show versions, CPU features, the self-test of the integer product, and what is missing."""
    from hecompile.report.doctor import examine, told

    findings = examine()
    if as_json:
        print_json(findings)
    else:
        rows(list(told(findings)), folds=True)
    if not findings["ok"]:
        raise typer.Exit(1)
