"""The partition as an optimisation: how every layer runs, so that a call of the model is fastest within budgets.

Every stack of linear layers of secret data takes one of its options: at the client, at the server with a share of its input
encrypted, or in a chain of several stacks and what lies between them, all of which one request answers. Rounds follow from the
graph: a server layer's answer is one round later than what it reads. Minimised is the predicted latency

    sum of the chosen options' client, server and transfer seconds + rounds x (round trip + request)

by OR-tools' CP-SAT with one worker and a fixed seed: the same plan every time. Times are integers of 0.1 microseconds.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hecompile.errors import CompileError, Diagnostic
from hecompile.machine import Machine, seconds_of
from hecompile.planner.choices import Option
from hecompile.planner.problem import Budgets, Problem, Totals, problem_of, rounds_of, totals_of

__all__ = ["Budgets", "OptimalPlan", "Problem", "Totals", "optimise", "problem_of", "rounds_of", "totals_of"]

TICKS = 10_000_000  # per second
PARTS = 10**12  # of a relative variance
TIME_LIMIT = 60.0  # deterministic seconds of CP-SAT


@dataclass(frozen=True)
class OptimalPlan:
    """Which option every stack takes; `gap_s` is how much faster another plan could be at most."""

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


def _pinned(problem: Problem, pins: Mapping[str, str]) -> dict[int, str]:
    """Stacks whose side the user decided, by name or pattern of a layer. Layers that share a request's uploads go together."""
    found: dict[int, str] = {}
    for pattern, side in pins.items():
        places = [place for place, names in enumerate(problem.names) if fnmatch.filter(names, pattern)]
        if not places or side not in ("client", "server"):
            raise CompileError(Diagnostic(f"pin '{pattern}={side}' fits no layer or side", help="sides are client and server"))
        found.update(dict.fromkeys(places, side))
    return found


class _Model:
    """CP-SAT's variables and constraints for a problem."""

    def __init__(self, problem: Problem) -> None:
        from ortools.sat.python import cp_model

        self.cp = cp_model.CpModel()
        self.problem = problem
        self.chained = [self.cp.new_bool_var(f"chain_{number}") for number in range(len(problem.chains))]
        self.takes: list[list[Any]] = [
            [
                self.cp.new_bool_var(f"{names[0]}_{number}") if option.chain is None else self.chained[option.chain]
                for number, option in enumerate(options)
            ]
            for names, options in zip(problem.names, problem.options, strict=True)
        ]
        self.rounds = self.cp.new_int_var(0, len(problem.names), "rounds")
        levels: list[Any] = []
        for place, taken in enumerate(self.takes):
            self.cp.add_exactly_one(taken)
            at_server = sum(self.where(place, "server"))
            levels.append(self.cp.new_int_var(0, len(problem.names), f"level_{place}"))
            own = next((option.chain for option in problem.options[place] if option.chain is not None), None)
            for earlier in problem.before[place]:
                within = own is not None and earlier in problem.chains[own].stacks
                self.cp.add(levels[place] >= levels[earlier] + at_server - (self.chained[own] if within and own is not None else 0))
            self.cp.add(levels[place] >= at_server)
            self.cp.add(self.rounds >= levels[place])
        for chain, chosen in zip(problem.chains, self.chained, strict=True):
            for place in chain.stacks:
                self.cp.add(levels[place] == levels[chain.stacks[0]]).only_enforce_if(chosen)
                for earlier in chain.reads:
                    self.cp.add(levels[place] >= levels[earlier] + 1).only_enforce_if(chosen)

    def where(self, place: int, side: str) -> list[Any]:
        """The variables of a stack's options at one side."""
        return [
            variable for variable, option in zip(self.takes[place], self.problem.options[place], strict=True) if option.side == side
        ]

    def total(self, amount: Any) -> Any:
        """The sum over the options that are taken."""
        pairs = zip(self.takes, self.problem.options, strict=True)
        return sum(
            round(amount(option)) * variable for taken, options in pairs for variable, option in zip(taken, options, strict=True)
        )

    def pin(self, place: int, side: str) -> None:
        self.cp.add(sum(self.where(place, side)) == 1)

    def keep(self, budgets: Budgets) -> None:
        """Add every budget that there is."""
        problem, add = self.problem, self.cp.add
        if budgets.rounds is not None:
            add(self.rounds <= budgets.rounds)
        if budgets.client_s is not None:
            add(self.total(lambda option: option.cost.client_s * TICKS) <= int((budgets.client_s - problem.local_s) * TICKS))
        if budgets.client_weights_mib is not None:
            add(self.total(lambda option: option.client_weights) <= int(budgets.client_weights_mib * 2**20))
        if budgets.distortion is not None:
            add(self.total(lambda option: option.cost.error_var * PARTS) <= int(budgets.distortion * PARTS))
        if budgets.leakage is not None:
            add(self.total(lambda option: option.cost.released) <= int(budgets.leakage * problem.entries))
        if budgets.server_mib is not None:
            largest = self.cp.new_int_var(0, 1 << 50, "largest")
            for taken, options in zip(self.takes, problem.options, strict=True):
                for variable, option in zip(taken, options, strict=True):
                    add(largest >= round(option.cost.peak_mib * 2**20) * variable)
            room = int((budgets.server_mib - problem.machine.base_mib) * 2**20)
            add(self.total(lambda option: option.server_weights) + largest <= room)

    def minimise_latency(self) -> None:
        machine = self.problem.machine
        round_ticks = round(problem_round_s(machine) * TICKS)
        self.cp.minimize(self.total(lambda option: seconds_of(option.cost, machine) * TICKS) + round_ticks * self.rounds)


def problem_round_s(machine: Machine) -> float:
    """Seconds of one more round."""
    from hecompile.ir.candidates import Cost

    return seconds_of(Cost(rounds=1), machine)


def optimise(problem: Problem, budgets: Budgets | None = None, pins: Mapping[str, str] | None = None) -> OptimalPlan:
    """The fastest plan within the budgets.

    Raises:
        CompileError: if no plan keeps them, or a pin fits nothing.
    """
    from ortools.sat.python import cp_model

    budgets, model = budgets or Budgets(), _Model(problem)
    for place, side in _pinned(problem, pins or {}).items():
        model.pin(place, side)
    model.keep(budgets)
    model.minimise_latency()
    solver = cp_model.CpSolver()
    solver.parameters.num_workers, solver.parameters.random_seed = 1, 0
    solver.parameters.max_deterministic_time = TIME_LIMIT
    status = solver.status_name(solver.solve(model.cp))
    if status not in ("OPTIMAL", "FEASIBLE"):
        raise CompileError(Diagnostic(f"no plan keeps {budgets}", help="raise a budget, or remove a pin"))
    choice = tuple(next(number for number, variable in enumerate(taken) if solver.value(variable)) for taken in model.takes)
    gap_s = max(0.0, solver.objective_value - solver.best_objective_bound) / TICKS
    taken = _at_server(problem, choice)
    encrypted, backends = ({name: getattr(option, each) for name, option in taken.items()} for each in ("encrypted", "backend"))
    chains = tuple(chain.nodes for chain, chosen in zip(problem.chains, model.chained, strict=True) if solver.value(chosen))
    return OptimalPlan(choice, encrypted, totals_of(problem, choice), gap_s, backends, chains)


def _at_server(problem: Problem, choice: Sequence[int]) -> dict[str, Option]:
    """The options of layers that run there."""
    chosen = zip(problem.names, problem.options, choice, strict=True)
    return {name: options[number] for names, options, number in chosen if options[number].side == "server" for name in names}
