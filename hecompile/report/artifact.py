"""The reports of an artifact: its own, which compiling writes, and those that `hecompile inspect --html` and runs make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hecompile.artifact import Manifest
from hecompile.machine import Machine
from hecompile.report.contents import Origin, Run, contents_of
from hecompile.report.page import page

if TYPE_CHECKING:
    from hecompile.ir.approximation import Approximation

__all__ = ["artifact_page", "run_page"]

AGAIN = "hecompile inspect FOLDER --html report.html"


def artifact_page(
    folder: Path, manifest: Manifest, machine: Machine | None = None, approximation: Approximation | None = None,
    origin: Origin | None = None,
) -> str:  # fmt: skip
    """The report of an artifact that was not run: costs are predicted.

    Args:
        machine: the profile to predict for; a usual one by default.
        approximation: its polynomials, which have a section.
        origin: what makes it again; by default it has neither date nor machine, so that the same input gives the same bytes.

    Raises:
        ProtocolError: for files that are missing, changed or malformed.
    """
    return page(contents_of(folder, manifest, machine or Machine(), origin or Origin(AGAIN), approximation=approximation))


def run_page(folder: Path, manifest: Manifest, run: Run, origin: Origin) -> str:
    """The report of a run: what was measured stands in place of predictions. Raises as `artifact_page` does."""
    return page(contents_of(folder, manifest, Machine(), origin, run))
