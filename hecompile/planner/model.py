"""The plans of a problem as variables and constraints of OR-tools' CP-SAT. Times, and what is minimised, are integers of 1e-7."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.candidates import Cost
from hecompile.machine import objective
from hecompile.planner.choices import Option
from hecompile.planner.problem import Budgets, Problem

__all__ = ["TICKS", "Measured", "PlanModel", "budgets_set"]

TICKS = 10_000_000  # per second
PARTS = 10**12  # of a relative variance
TIME_LIMIT = 4.0  # deterministic seconds of CP-SAT
GAP = 1e-4  # of what is minimised: a plan that is proved to be nearer to the best one than that is taken


SENT: Mapping[str, Callable[[Option], int]] = {
    "mb_first": lambda option: option.first_bytes,
    "mb_later": lambda option: option.later_bytes,
}


@dataclass(frozen=True)
class Measured:
    """A total of a plan: `base` and an integer expression in parts of which `parts` make one."""

    amount: Any
    parts: int = 1
    base: float = 0.0

    def whole(self, limit: float) -> int:
        """The largest amount within a limit of the total."""
        return int((limit - self.base) * self.parts)

    def value(self, amount: float) -> float:
        """The total of an amount."""
        return amount / self.parts + self.base


def budgets_set(budgets: Budgets) -> dict[str, float]:
    """The limits that there are, by name."""
    found = {each.name: getattr(budgets, each.name) for each in fields(budgets)}
    return {name: limit for name, limit in found.items() if limit is not None}


def _pinned(problem: Problem, pins: Mapping[str, str]) -> dict[int, str]:
    """Stacks whose side the user decided, by name or pattern of a layer. Layers that share a request's uploads go together."""
    found: dict[int, str] = {}
    for pattern, side in pins.items():
        places = [place for place, names in enumerate(problem.names) if fnmatch.filter(names, pattern)]
        if not places or side not in ("client", "server"):
            raise CompileError(Diagnostic(f"pin '{pattern}={side}' fits no layer or side", help="sides are client and server"))
        found.update(dict.fromkeys(places, side))
    return found


class PlanModel:
    """CP-SAT's variables and constraints for a problem, with the sides that the user decided."""

    def __init__(self, problem: Problem, pins: Mapping[str, str]) -> None:
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
        self.cp.add(self.total(lambda option: option.client_cache) <= problem.client_cache_bytes)
        for place, side in _pinned(problem, pins).items():
            self.cp.add(sum(self.where(place, side)) == 1)

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

    def measured(self, name: str) -> Measured:
        """A total of the plan that a budget of this name limits."""
        problem = self.problem
        if name == "rounds":
            return Measured(self.rounds)
        if name == "client_s":
            return Measured(self.total(lambda option: option.cost.client_s * TICKS), TICKS, problem.local_s)
        if name == "client_weights_mib":
            return Measured(self.total(lambda option: option.client_weights), 2**20)
        if name == "distortion":
            return Measured(self.total(lambda option: option.cost.error_var * PARTS), PARTS)
        if name == "leakage":
            return Measured(self.total(lambda option: option.cost.released), problem.entries)
        if name in ("mb_first", "mb_later"):
            return Measured(self.total(SENT[name]), 10**6)
        largest = self.cp.new_int_var(0, 1 << 50, "largest")
        for taken, options in zip(self.takes, problem.options, strict=True):
            for variable, option in zip(taken, options, strict=True):
                self.cp.add(largest >= round(option.cost.peak_mib * 2**20) * variable)
        return Measured(self.total(lambda option: option.server_weights) + largest, 2**20, problem.machine.base_mib)

    def keep(self, budgets: Budgets) -> None:
        """Add every budget that there is."""
        for name, limit in budgets_set(budgets).items():
            found = self.measured(name)
            self.cp.add(found.amount <= found.whole(limit))

    def minimise(self) -> None:
        """Find the plan that is best by the machine's goal."""
        machine = self.problem.machine
        round_ticks = round(objective(Cost(rounds=1), machine) * TICKS)
        self.cp.minimize(self.total(lambda option: objective(option.cost, machine) * TICKS) + round_ticks * self.rounds)

    def most(self, name: str) -> int:
        """An amount of this total that no plan exceeds: every stack at its most."""
        if name == "rounds":
            return len(self.problem.names)
        pick: Any = {
            "client_s": lambda option: option.cost.client_s * TICKS,
            "client_weights_mib": lambda option: option.client_weights,
            "distortion": lambda option: option.cost.error_var * PARTS,
            "leakage": lambda option: option.cost.released,
            "server_mib": lambda option: option.server_weights + option.cost.peak_mib * 2**20,
            **SENT,
        }[name]
        amounts = [max(pick(option) for option in options) for options in self.problem.options]
        return int(sum(amounts)) + len(amounts)

    def choice(self, solver: Any) -> tuple[int, ...]:
        """The number of the option that every stack takes."""
        return tuple(next(number for number, variable in enumerate(taken) if solver.value(variable)) for taken in self.takes)

    def solve(self) -> Any:
        """The solver, with the best plan that it found; None if there is no plan."""
        from ortools.sat.python import cp_model

        solver = cp_model.CpSolver()
        solver.parameters.num_workers, solver.parameters.random_seed = 1, 0
        solver.parameters.max_deterministic_time, solver.parameters.relative_gap_limit = TIME_LIMIT, GAP
        solver.parameters.linearization_level = 2  # what the client keeps is a knapsack: without it the bound stays far off
        return solver if solver.status_name(solver.solve(self.cp)) in ("OPTIMAL", "FEASIBLE") else None
