"""The HTML report: regions, parameters, proofs and bytes; after a run also times and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hecompile.artifact import Manifest
from hecompile.report.tables import region_rows, totals

if TYPE_CHECKING:
    from hecompile.ir.approximation import Approximation

__all__ = ["compile_report", "run_report"]


def _render(**context: Any) -> str:
    import jinja2

    environment = jinja2.Environment(loader=jinja2.PackageLoader("hecompile.report", "."), autoescape=True)
    return environment.get_template("report.html").render(**context)


def compile_report(folder: Path, manifest: Manifest, approximation: Approximation | None = None) -> str:
    """The report of an artifact, with a section on its polynomials if it has any."""
    from hecompile.report.activations import section

    rows, activations = region_rows(folder, manifest), approximation and section(approximation)
    return _render(manifest=manifest, rows=rows, totals=totals(rows, manifest), figures={}, pictures=[], activations=activations)


def run_report(folder: Path, manifest: Manifest, figures: Mapping[str, object], pictures: Sequence[tuple[str, bytes]]) -> str:
    """The same with what a run measured and PNG pictures with their captions."""
    import base64

    rows = region_rows(folder, manifest)
    shown = [(caption, base64.b64encode(data).decode()) for caption, data in pictures]
    return _render(manifest=manifest, rows=rows, totals=totals(rows, manifest), figures=figures, pictures=shown)
