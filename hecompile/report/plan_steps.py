"""The plan in order, for people: each step's side, its modules, and what it makes and sends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hecompile.ir.modules import ModuleWork
from hecompile.report.contents import Contents
from hecompile.report.modules import grouped
from hecompile.report.tables import RegionRow
from hecompile.report.words import shape_text
from hecompile.wording import byte_text

__all__ = ["PlanStep", "plan_steps"]


@dataclass(frozen=True)
class PlanStep:
    """One step: `region` is its name in the plan, `label` its modules, `details` what it makes and sends."""

    region: str
    side: str  # `client` or `server`
    label: str
    details: str
    modules: tuple[ModuleWork, ...]


def plan_steps(contents: Contents) -> list[PlanStep]:
    """A step for each region of the plan."""
    plan, steps = contents.manifest.plan, []
    for step, row in zip(plan.steps, contents.rows, strict=True):
        modules = tuple(work for work in contents.modules if work.region == step.region)
        shapes = [shape_text(plan.value(name).shape) for name in step.outputs]
        side = "server" if step.kind == "call" else "client"
        steps.append(PlanStep(step.region, side, _label(row, modules), _details(row, shapes, step.per_run), modules))
    return steps


def _label(row: RegionRow, modules: Sequence[ModuleWork]) -> str:
    """The modules of a step, or its operations where it has none."""
    if row.layers:
        return row.label
    paths = [work.path for work in modules if work.path]
    return grouped(paths) or ", ".join(dict.fromkeys(name for work in modules for name in work.operations)) or "own layers"


def _details(row: RegionRow, shapes: Sequence[str], per_run: bool) -> str:
    made = f"makes {', '.join(dict.fromkeys(shapes))}"
    if not row.layers:
        return made
    once = ", once in a run" if per_run else ""
    return f"{made}; {byte_text(row.up_bytes)} up, {byte_text(row.down_bytes)} down{once}"
