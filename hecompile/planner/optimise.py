"""The partition as an optimisation: how every layer runs, so that a call of the model is best by a goal, within budgets.

Every stack of linear layers of secret data takes one of its options: at the client, at the server with a share of its input
encrypted, or in a chain of several stacks and what lies between them, all of which one request answers. Rounds follow from the
graph: a server layer's answer is one round later than what it reads. Minimised is the machine's objective, for the goal latency

    sum of the chosen options' client, server and transfer seconds + rounds x (round trip + request)

by OR-tools' CP-SAT with one worker and a fixed seed: the same plan every time. In a run, amounts are those of a call on average.
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
    """Which option every stack takes; `gap_s` is by how much another plan's objective could be lower at most."""

    choice: tuple[int, ...]
    encrypted: Mapping[str, float]  # layers at the server, and the share of their input's channels that is encrypted
    totals: Totals
    gap_s: float
    backends: Mapping[str, str]  # of those layers
    chains: tuple[tuple[str, ...], ...] = ()  # nodes of every chain that runs in one request

    @property
    def server(self) -> frozenset[str]:
        """Layers at the server."""
        return frozenset(self.encrypted)


def optimise(problem: Problem, budgets: Budgets | None = None, pins: Mapping[str, str] | None = None) -> OptimalPlan:
    """The best plan within the budgets, by the goal of the problem's machine.

    Raises:
        CompileError: if no plan keeps them, naming what would be enough; or if a pin fits nothing.
    """
    found = best_plan(problem, budgets or Budgets(), pins or {})
    if found is None:
        raise CompileError(unkept(problem, budgets or Budgets(), pins or {}))
    return found


def best_plan(problem: Problem, budgets: Budgets, pins: Mapping[str, str]) -> OptimalPlan | None:
    """The best plan within the budgets; None if there is none. Raises `CompileError` if a pin fits nothing."""
    model = PlanModel(problem, pins)
    model.keep(budgets)
    model.minimise()
    solver = model.solve()
    if solver is None:
        return None
    choice = model.choice(solver)
    gap_s = max(0.0, solver.objective_value - solver.best_objective_bound) / TICKS
    taken = _at_server(problem, choice)
    encrypted, backends = ({name: getattr(option, each) for name, option in taken.items()} for each in ("encrypted", "backend"))
    chains = tuple(chain.nodes for chain, chosen in zip(problem.chains, model.chained, strict=True) if solver.value(chosen))
    return OptimalPlan(choice, encrypted, totals_of(problem, choice), gap_s, backends, chains)


def _at_server(problem: Problem, choice: Sequence[int]) -> dict[str, Option]:
    """The options of layers that run there."""
    chosen = zip(problem.names, problem.options, choice, strict=True)
    return {name: options[number] for names, options, number in chosen if options[number].side == "server" for name in names}
