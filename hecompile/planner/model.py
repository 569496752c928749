"""Expresses the choice of a plan as variables and constraints of OR-tools' CP-SAT. Seconds and the objective are integers of
1e-7."""

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
PARTS = 10**12  # a relative variance of one as an integer
TIME_LIMIT = 4.0  # in CP-SAT's deterministic time, so that the result does not depend on the machine
GAP = 1e-4  # the search ends at a plan whose objective is proved to be within this share of the best one's


SENT: Mapping[str, Callable[[Option], int]] = {
    "mb_first": lambda option: option.first_bytes,
    "mb_later": lambda option: option.later_bytes,
}


@dataclass(frozen=True)
class Measured:
    """A total of a plan: `base` plus the integer expression `amount` divided by `parts`."""

    amount: Any
    parts: int = 1
    base: float = 0.0

    def whole(self, limit: float) -> int:
        """Return the largest integer amount for which the total is within a limit."""
        return int((limit - self.base) * self.parts)

    def value(self, amount: float) -> float:
        """Return the total for an amount."""
        return amount / self.parts + self.base


def budgets_set(budgets: Budgets) -> dict[str, float]:
    """Return the limits that were set, by name."""
    limits = {budget.name: getattr(budgets, budget.name) for budget in fields(budgets)}
    return {name: limit for name, limit in limits.items() if limit is not None}


def _pinned(problem: Problem, pins: Mapping[str, str]) -> dict[int, str]:
    """Return the sides of the groups that the user pinned, by a layer's name or a pattern of names. Layers of a group get the same
    side."""
    sides: dict[int, str] = {}
    for pattern, side in pins.items():
        places = [place for place, names in enumerate(problem.names) if fnmatch.filter(names, pattern)]
        if not places or side not in ("client", "server"):
            raise CompileError(
                Diagnostic(f"pin '{pattern}={side}' matches no layer, or names an unknown side", help="sides are client and server")
            )
        sides.update(dict.fromkeys(places, side))
    return sides


class PlanModel:
    """CP-SAT's variables and constraints for a problem, with the sides that the user pinned."""

    def __init__(self, problem: Problem, pins: Mapping[str, str]) -> None:
        from ortools.sat.python import cp_model

        self.cp = cp_model.CpModel()
        self.problem = problem
        self.region_taken = [self.cp.new_bool_var(f"region_{number}") for number in range(len(problem.multi_layer_regions))]
        self.takes: list[list[Any]] = [
            [
                self.cp.new_bool_var(f"{names[0]}_{number}") if option.region is None else self.region_taken[option.region]
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
            own = next((option.region for option in problem.options[place] if option.region is not None), None)
            for earlier in problem.before[place]:
                within = own is not None and earlier in problem.multi_layer_regions[own].groups
                self.cp.add(
                    levels[place] >= levels[earlier] + at_server - (self.region_taken[own] if within and own is not None else 0)
                )
            self.cp.add(levels[place] >= at_server)
            self.cp.add(self.rounds >= levels[place])
        for region, region_taken in zip(problem.multi_layer_regions, self.region_taken, strict=True):
            for place in region.groups:
                self.cp.add(levels[place] == levels[region.groups[0]]).only_enforce_if(region_taken)
                for earlier in region.reads:
                    self.cp.add(levels[place] >= levels[earlier] + 1).only_enforce_if(region_taken)
        self.cp.add(self.total(lambda option: option.client_cache) <= problem.client_cache_bytes)
        for place, side in _pinned(problem, pins).items():
            self.cp.add(sum(self.where(place, side)) == 1)

    def where(self, place: int, side: str) -> list[Any]:
        """Return the variables of a group's options at one side."""
        return [
            variable for variable, option in zip(self.takes[place], self.problem.options[place], strict=True) if option.side == side
        ]

    def total(self, amount: Any) -> Any:
        """Return the sum of `amount` over the options that the plan takes."""
        pairs = zip(self.takes, self.problem.options, strict=True)
        return sum(
            round(amount(option)) * variable for taken, options in pairs for variable, option in zip(taken, options, strict=True)
        )

    def measured(self, name: str) -> Measured:
        """Return the total that the budget of this name limits."""
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
            return Measured(self.total(lambda option: option.cost.revealed), problem.entries)
        if name in ("mb_first", "mb_later"):
            return Measured(self.total(SENT[name]), 10**6)
        largest = self.cp.new_int_var(0, 1 << 50, "largest")
        for taken, options in zip(self.takes, problem.options, strict=True):
            for variable, option in zip(taken, options, strict=True):
                self.cp.add(largest >= round(option.cost.peak_mib * 2**20) * variable)
        return Measured(self.total(lambda option: option.server_weights) + largest, 2**20, problem.machine.base_mib)

    def keep(self, budgets: Budgets) -> None:
        """Add a constraint for every budget that was set."""
        for name, limit in budgets_set(budgets).items():
            total = self.measured(name)
            self.cp.add(total.amount <= total.whole(limit))

    def minimise(self) -> None:
        """Set the objective to that of the machine's goal."""
        machine = self.problem.machine
        round_ticks = round(objective(Cost(rounds=1), machine) * TICKS)
        self.cp.minimize(self.total(lambda option: objective(option.cost, machine) * TICKS) + round_ticks * self.rounds)

    def most(self, name: str) -> int:
        """Return an amount of this total that no plan exceeds, from the largest option of every group."""
        if name == "rounds":
            return len(self.problem.names)
        pick: Any = {
            "client_s": lambda option: option.cost.client_s * TICKS,
            "client_weights_mib": lambda option: option.client_weights,
            "distortion": lambda option: option.cost.error_var * PARTS,
            "leakage": lambda option: option.cost.revealed,
            "server_mib": lambda option: option.server_weights + option.cost.peak_mib * 2**20,
            **SENT,
        }[name]
        amounts = [max(pick(option) for option in options) for options in self.problem.options]
        return int(sum(amounts)) + len(amounts)

    def choice(self, solver: Any) -> tuple[int, ...]:
        """Return the number of the option that every group takes."""
        return tuple(next(number for number, variable in enumerate(taken) if solver.value(variable)) for taken in self.takes)

    def solve(self) -> Any:
        """Return the solver with the best plan that it found; None if there is no plan."""
        from ortools.sat.python import cp_model

        solver = cp_model.CpSolver()
        solver.parameters.num_workers, solver.parameters.random_seed = 1, 0
        solver.parameters.max_deterministic_time, solver.parameters.relative_gap_limit = TIME_LIMIT, GAP
        solver.parameters.linearization_level = (
            2  # the client's cache is a knapsack problem, for which lower levels give loose bounds
        )
        return solver if solver.status_name(solver.solve(self.cp)) in ("OPTIMAL", "FEASIBLE") else None
