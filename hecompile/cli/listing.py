"""The commands that list what there is: the compiler's passes, and what this machine has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hecompile.cli.console import Json, print_json, rows, say

__all__ = ["doctor", "passes"]


def passes(
    backend: Annotated[str, typer.Option(help="whose passes; they differ where a backend lowers its regions")] = "bfv",
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
    from hecompile.report.doctor import examine

    findings = examine()
    if as_json:
        print_json(findings)
    else:
        for key, value in findings.items():
            say(f"{key:<22} {json.dumps(value) if isinstance(value, dict | list) else value}")
    if not findings["ok"]:
        raise typer.Exit(1)
