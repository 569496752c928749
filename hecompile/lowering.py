"""Merges the lowering passes of several backends into one list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

from hecompile.ir.passes import Pass, RegionPass
from hecompile.ir.regions import Program

if TYPE_CHECKING:
    from hecompile.backends.context import Context

__all__ = ["lowering"]

NOTHING = "nothing to do"  # the summary of a pass that leaves the program as it is


@dataclass(frozen=True)
class _Together(Pass[Program, Program]):
    """The passes of several backends that have the same name, run one after the other as a single pass."""

    steps: tuple[RegionPass, ...]

    @property
    def name(self) -> str:
        return self.steps[0].name

    @property
    def help(self) -> str:
        return self.steps[0].help

    def run(self, program: Program) -> Program:
        return reduce(lambda before, step: step.run(before), self.steps, program)

    def summary(self, before: Program, after: Program) -> str:
        summaries = dict.fromkeys(step.summary(before, after) for step in self.steps)
        return "; ".join([text for text in summaries if text != NOTHING] or [NOTHING])


def lowering(names: Sequence[str], context: Context) -> list[Pass[Any, Any]]:
    """Return the passes with which these backends lower their regions, in an order that keeps the order of each backend."""
    from hecompile.backends.registry import backend

    steps = dict[str, list[RegionPass]]()
    order = list[str]()
    for own in (backend(name).lowering(context) for name in names):
        place = 0
        for step in own:
            if step.name not in steps:
                order.insert(place, step.name)
            steps.setdefault(step.name, []).append(step)
            place = order.index(step.name) + 1
    return [steps[name][0] if len(steps[name]) == 1 else _Together(tuple(steps[name])) for name in order]
