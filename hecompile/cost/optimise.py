"""The partition as an optimisation: which layers go to the server, so that a call of the model is fastest within budgets.

Every linear layer of secret data runs at the client or at the server. Rounds follow from the graph: a server layer's answer is one
round later than what it reads. Minimised is the predicted latency

    sum of the chosen candidates' client, server and transfer seconds + rounds x (round trip + request)

by OR-tools' CP-SAT with one worker and a fixed seed: the same plan every time. Times are integers of 0.1 microseconds.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hecompile.backends.base import Cost
from hecompile.cost.layers import cost_of, macs_of, parameters_for, weights_of
from hecompile.cost.machine import Machine
from hecompile.cost.model import seconds_of
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.graph import ModelGraph
from hecompile.ir.layers import LayerShape, secret_shapes

__all__ = ["Budgets", "OptimalPlan", "Problem", "latency_of", "optimise", "problem_of"]

TICKS = 10_000_000  # per second
TIME_LIMIT = 60.0  # deterministic seconds of CP-SAT


@dataclass(frozen=True)
class Budgets:
    """Limits of a plan; None is no limit. `client_weights_mib` counts int8 weights that the client would have to hold."""

    client_s: float | None = None
    rounds: int | None = None
    client_weights_mib: float | None = None


@dataclass(frozen=True)
class Problem:
    """What a plan is chosen from: per layer the costs of both sides, and which layers each reads from."""

    names: tuple[str, ...]
    shapes: tuple[LayerShape, ...]
    server: tuple[Cost | None, ...]  # None: no parameters carry the layer
    client_s: tuple[float, ...]
    before: tuple[tuple[int, ...], ...]
    machine: Machine


@dataclass(frozen=True)
class OptimalPlan:
    """Layers for the server, and what is known of the plan's quality: `gap_s` is how much better another could be at most."""

    server: frozenset[str]
    latency_s: float
    client_s: float
    rounds: int
    gap_s: float


def problem_of(graph: ModelGraph, machine: Machine) -> Problem:
    """Costs and dependencies of a graph whose secrets are marked."""
    shapes = secret_shapes(graph)
    number = {shape.nodes[-1]: place for place, shape in enumerate(shapes)}
    nearest: dict[str, frozenset[int]] = {}
    before: list[tuple[int, ...]] = [()] * len(shapes)
    for node in graph.nodes:
        read = frozenset().union(*(nearest[argument.name] for argument in node.all_input_nodes))
        if node.name in number:
            before[number[node.name]] = tuple(sorted(read))
            read = frozenset({number[node.name]})
        nearest[node.name] = read
    choices = [parameters_for(shape, machine) for shape in shapes]
    server = tuple(None if choice is None else cost_of(choice, machine) for choice in choices)
    client_s = tuple(macs_of(shape.geometry) * shape.multiple * machine.float_ps * 1e-12 for shape in shapes)
    return Problem(tuple(shape.nodes[-1] for shape in shapes), tuple(shapes), server, client_s, tuple(before), machine)


def _round_s(machine: Machine) -> float:
    return seconds_of(Cost(rounds=1), machine)


def rounds_of(problem: Problem, server: Sequence[bool]) -> int:
    """Requests in a row that a choice needs."""
    level: list[int] = []
    for place, chosen in enumerate(server):
        level.append(max((level[earlier] for earlier in problem.before[place]), default=0) + chosen)
    return max(level, default=0)


def client_seconds(problem: Problem, server: Sequence[bool]) -> float:
    """CPU seconds of the client under a choice."""
    costs = zip(server, problem.server, problem.client_s, strict=True)
    return sum(cost.client_s if chosen and cost is not None else local for chosen, cost, local in costs)


def latency_of(problem: Problem, server: Sequence[bool]) -> float:
    """Predicted seconds of a call under any choice."""
    total = _round_s(problem.machine) * rounds_of(problem, server)
    for chosen, cost, local in zip(server, problem.server, problem.client_s, strict=True):
        total += seconds_of(cost, problem.machine) if chosen and cost is not None else local
    return total


def _pinned(problem: Problem, pins: Mapping[str, str]) -> dict[int, bool]:
    """Layers whose side the user decided, by name or pattern."""
    found: dict[int, bool] = {}
    for pattern, side in pins.items():
        places = [place for place, name in enumerate(problem.names) if fnmatch.fnmatchcase(name, pattern)]
        if not places or side not in ("client", "server"):
            raise CompileError(Diagnostic(f"pin '{pattern}={side}' fits no layer or side", help="sides are client and server"))
        found.update(dict.fromkeys(places, side == "server"))
    return found


def optimise(problem: Problem, budgets: Budgets | None = None, pins: Mapping[str, str] | None = None) -> OptimalPlan:
    """The fastest plan within the budgets.

    Raises:
        CompileError: if no plan keeps them, or a pin fits nothing.
    """
    from ortools.sat.python import cp_model

    budgets, model = budgets or Budgets(), cp_model.CpModel()
    count = len(problem.names)
    chosen: list[Any] = [model.new_bool_var(name) for name in problem.names]
    level: list[Any] = [model.new_int_var(0, count, f"level_{name}") for name in problem.names]
    rounds = model.new_int_var(0, count, "rounds")
    for place in range(count):
        for earlier in problem.before[place]:
            model.add(level[place] >= level[earlier] + chosen[place])
        model.add(level[place] >= chosen[place])
        model.add(rounds >= level[place])
        if problem.server[place] is None:
            model.add(chosen[place] == 0)
    for place, side in _pinned(problem, pins or {}).items():
        model.add(chosen[place] == int(side))
    if budgets.rounds is not None:
        model.add(rounds <= budgets.rounds)
    if budgets.client_s is not None:
        client = [round(((cost.client_s if cost else 0.0) - local) * TICKS) for cost, local in _sides(problem)]
        local_ticks = round(sum(problem.client_s) * TICKS)
        model.add(cp_model.LinearExpr.weighted_sum(chosen, client) + local_ticks <= round(budgets.client_s * TICKS))
    if budgets.client_weights_mib is not None:
        weights = [weights_of(shape.geometry) for shape in problem.shapes]
        kept = sum(weights) - cp_model.LinearExpr.weighted_sum(chosen, weights)
        model.add(kept <= int(budgets.client_weights_mib * 2**20))
    gains = [round(((seconds_of(cost, problem.machine) if cost else 0.0) - local) * TICKS) for cost, local in _sides(problem)]
    model.minimize(cp_model.LinearExpr.weighted_sum(chosen, gains) + round(_round_s(problem.machine) * TICKS) * rounds)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers, solver.parameters.random_seed = 1, 0
    solver.parameters.max_deterministic_time = TIME_LIMIT
    status = solver.status_name(solver.solve(model))
    if status not in ("OPTIMAL", "FEASIBLE"):
        raise CompileError(Diagnostic(f"no plan keeps {budgets}", help="raise a budget, or remove a pin"))
    sides = [bool(solver.value(variable)) for variable in chosen]
    names = frozenset(name for name, side in zip(problem.names, sides, strict=True) if side)
    gap_s = max(0.0, solver.objective_value - solver.best_objective_bound) / TICKS
    return OptimalPlan(names, latency_of(problem, sides), client_seconds(problem, sides), rounds_of(problem, sides), gap_s)


def _sides(problem: Problem) -> list[tuple[Cost | None, float]]:
    return list(zip(problem.server, problem.client_s, strict=True))
