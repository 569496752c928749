"""Everything that a report shows, gathered from an artifact and, where there is one, from a run of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hecompile.artifact import Manifest
from hecompile.artifact_modules import read_modules
from hecompile.errors import CompileError
from hecompile.ir.modules import ModuleWork
from hecompile.machine import Machine
from hecompile.planner.artifact import local_works, predict_manifest
from hecompile.report.costs import Costs, predicted_costs
from hecompile.report.tables import RegionRow, region_rows
from hecompile.report.timeline import Timeline, predicted_timeline

if TYPE_CHECKING:
    from hecompile.ir.approximation import Approximation

__all__ = ["Contents", "Origin", "Picture", "Run", "contents_of"]


@dataclass(frozen=True)
class Picture:
    """A picture of a run: a title, a sentence, the bytes of a PNG file, and whose it is: `client`, `server`, or nobody's."""

    title: str
    caption: str
    png: bytes = field(repr=False)
    side: str = ""


@dataclass(frozen=True)
class Origin:
    """How a report was made. The one that compiling writes has no date and no machine, so that equal input gives equal bytes."""

    command: str  # that makes it again
    date: str = ""
    machine: str = ""


@dataclass(frozen=True)
class Run:
    """What a run adds to a report: what it cost, pictures, one step's timeline, further figures by name, and what was predicted of
    it. An empty headline or lead leaves those of the artifact."""

    costs: Costs
    headline: str = ""
    lead: str = ""
    pictures: tuple[Picture, ...] = ()
    timeline: Timeline | None = None
    figures: Mapping[str, str] = field(default_factory=dict)
    compared: Sequence[tuple[str, str, str]] = ()  # what, as predicted, as measured


@dataclass(frozen=True)
class Contents:
    """What a page shows. Costs and timeline are None where nothing was run and the backend has no cost model."""

    manifest: Manifest
    rows: Sequence[RegionRow]
    modules: Sequence[ModuleWork]
    origin: Origin
    costs: Costs | None
    timeline: Timeline | None
    run: Run | None = None
    approximation: Approximation | None = None

    @property
    def calls(self) -> list[RegionRow]:
        """The requests, in the order of the plan."""
        return [row for row in self.rows if row.layers]

    @property
    def told(self) -> bool:
        """Whether any request tells public values."""
        return any(row.told for row in self.rows)


def contents_of(
    folder: Path, manifest: Manifest, machine: Machine, origin: Origin, run: Run | None = None,
    approximation: Approximation | None = None,
) -> Contents:  # fmt: skip
    """What is known of the artifact in a folder: predicted for this machine, but for what was measured in a run.

    Raises:
        ProtocolError: for files that are missing, changed or malformed.
    """
    modules = read_modules(folder, manifest.files)
    rows = region_rows(folder, manifest, modules)
    costs, timeline = (run.costs, run.timeline) if run else (None, None)
    if costs is None or timeline is None:
        try:
            local = local_works(folder, manifest)
            prediction = predict_manifest(folder, manifest, machine, local=local)
        except CompileError:  # a backend without a cost model
            prediction = None
        if prediction is not None:
            costs = costs or predicted_costs(prediction)
            timeline = timeline or predicted_timeline(manifest, prediction, local)
    return Contents(manifest, rows, modules, origin, costs, timeline, run, approximation)
