"""Chooses how every layer runs, so that a call of the model is best by a goal, within budgets.

Every group of linear layers of secret data takes one of its options: it runs at the client; or at the server, with a share of its
input encrypted; or in a multi-layer region, where one request computes several groups and what lies between them. The number of
rounds follows from the graph: a layer at the server is answered one round later than what it reads. For the goal latency, the
objective is

    sum of the taken options' client, server and transfer seconds + rounds x (round trip + request)

It is minimised by OR-tools' CP-SAT with one worker and a fixed seed, which gives the same plan every time. In a run, amounts are
averages over its calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hecompile.errors import CompileError
from hecompile.planner.choices import Option
from hecompile.planner.model import TICKS, PlanModel
from hecompile.planner.nearest import unkept
from hecompile.planner.problem import Budgets, Problem, Totals, problem_of, rounds_of, totals_of

__all__ = ["Budgets", "OptimalPlan", "Problem", "Totals", "best_plan", "optimise", "problem_of", "rounds_of", "totals_of"]


@dataclass(frozen=True)
class OptimalPlan:
    """The option that every group takes. `gap_s` is by how much another plan's objective could at most be lower, in seconds."""

    choice: tuple[int, ...]
    encrypted: Mapping[str, float]  # for every layer at the server the share of its input's channels that is encrypted
    totals: Totals
    gap_s: float
    backends: Mapping[str, str]  # for every layer at the server its backend
    multi_layer_regions: tuple[tuple[str, ...], ...] = ()  # nodes of every multi-layer region of the plan

    @property
    def server(self) -> frozenset[str]:
        """The names of the layers at the server."""
        return frozenset(self.encrypted)


def optimise(problem: Problem, budgets: Budgets | None = None, pins: Mapping[str, str] | None = None) -> OptimalPlan:
    """Return the best plan within the budgets, by the goal of the problem's machine.

    Raises:
        CompileError: if no plan keeps the budgets, with limits that would be enough; or if a pin matches no layer.
    """
    plan = best_plan(problem, budgets or Budgets(), pins or {})
    if plan is None:
        raise CompileError(unkept(problem, budgets or Budgets(), pins or {}))
    return plan


def best_plan(problem: Problem, budgets: Budgets, pins: Mapping[str, str]) -> OptimalPlan | None:
    """Return the best plan within the budgets; None if there is none. Raises `CompileError` if a pin matches no layer."""
    model = PlanModel(problem, pins)
    model.keep(budgets)
    model.minimise()
    solver = model.solve()
    if solver is None:
        return None
    choice = model.choice(solver)
    gap_s = max(0.0, solver.objective_value - solver.best_objective_bound) / TICKS
    taken = _at_server(problem, choice)
    encrypted = {name: option.encrypted for name, option in taken.items()}
    backends = {name: option.backend for name, option in taken.items()}
    regions = tuple(
        region.nodes for region, taken in zip(problem.multi_layer_regions, model.region_taken, strict=True) if solver.value(taken)
    )
    return OptimalPlan(choice, encrypted, totals_of(problem, choice), gap_s, backends, regions)


def _at_server(problem: Problem, choice: Sequence[int]) -> dict[str, Option]:
    """Return the options of the layers that run at the server, by the layer's name."""
    choices = zip(problem.names, problem.options, choice, strict=True)
    return {name: options[number] for names, options, number in choices if options[number].side == "server" for name in names}
