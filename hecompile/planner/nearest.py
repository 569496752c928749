"""What to say where no plan keeps the budgets: which they are, and what would be enough."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hecompile.errors import Diagnostic
from hecompile.planner.model import PlanModel, budgets_set
from hecompile.planner.problem import Budgets, Problem, totals_of
from hecompile.wording import in_words, number_text

__all__ = ["unkept"]

SHARES = 1000  # of a total's range, in which excesses are compared
DIGITS = 4  # of a value that would do, rounded up
WORDS = {  # of every budget: its flag, and how it reads
    "client_s": ("--client-seconds", "{} CPU seconds of the client"),
    "rounds": ("--most-rounds", "{} requests in a row"),
    "client_weights_mib": ("--client-weights-mib", "{} MiB of weights at the client"),
    "distortion": ("--most-distortion", "a relative variance of {} in the output"),
    "leakage": ("--most-leakage", "a share of {} of the secret inputs in the clear"),
    "server_mib": ("--server-mib", "{} MiB of memory at the server"),
    "mb_first": ("--most-mb-first", "{} MB in the first call of a run"),
    "mb_later": ("--most-mb-later", "{} MB in every later call"),
}


def unkept(problem: Problem, budgets: Budgets, pins: Mapping[str, str]) -> Diagnostic:
    """The finding that no plan keeps these budgets, with the least value of each that would do, the others as they are.

    Where no single one is enough, the values of the plan that exceeds all of them together by the least.
    """
    limits = budgets_set(budgets)
    if not limits:
        return Diagnostic("no plan keeps all pins", help="remove a pin")
    kept = in_words([_worded(name, limit) for name, limit in limits.items()], "and")
    single = {name: value for name in limits if (value := _least(problem, budgets, pins, name)) is not None}
    if single:
        beside = "" if len(limits) == 1 else ", the other budgets as they are"
        help = f"{in_words(_flags(single), 'or')} is enough{beside}"
    elif together := _nearest(problem, limits, pins):
        help = f"one budget alone is not enough: the nearest plan needs {in_words(_flags(together), 'and')}"
    else:
        return Diagnostic("no plan keeps all pins", help="remove a pin")
    return Diagnostic(f"no plan keeps to {kept}", help=help + ("; or remove a pin" if pins else ""))


def _worded(name: str, limit: float) -> str:
    words = WORDS[name][1].format(number_text(limit))
    return words.replace("requests", "request") if limit == 1 else words


def _flags(values: Mapping[str, float]) -> list[str]:
    return [f"{WORDS[name][0]} {number_text(_rounded_up(value))}" for name, value in values.items()]


def _rounded_up(value: float) -> float:
    """To a few digits, and never below the value."""
    if value == int(value) or value <= 0:
        return value
    step = 10.0 ** (math.floor(math.log10(value)) - DIGITS + 1)
    return float(f"{math.ceil(value / step * (1 + 1e-9)) * step:.{DIGITS}g}")


def _least(problem: Problem, budgets: Budgets, pins: Mapping[str, str], name: str) -> float | None:
    """The least total that a plan within the other budgets has; None if there is no such plan."""
    model = PlanModel(problem, pins)
    model.keep(replace(budgets, **{name: None}))
    found = model.measured(name)
    model.cp.minimize(found.amount)
    solver = model.solve()
    return None if solver is None else found.value(solver.value(found.amount))


def _nearest(problem: Problem, limits: Mapping[str, float], pins: Mapping[str, str]) -> dict[str, float]:
    """The totals above their limits, of the plan with the least sum of excesses, each as a share of what the total may be."""
    model, excesses = PlanModel(problem, pins), list[Any]()
    for name, limit in limits.items():
        total, most = model.measured(name), model.most(name)
        room, share = total.whole(limit), max(1, most // SHARES)
        excesses.append(model.cp.new_int_var(0, (most + abs(room)) // share + 1, f"excess_{name}"))
        model.cp.add(excesses[-1] * share >= total.amount - room)
    model.cp.minimize(sum(excesses))
    solver = model.solve()
    if solver is None:
        return {}
    totals = totals_of(problem, model.choice(solver))
    return {name: getattr(totals, name) for name, limit in limits.items() if getattr(totals, name) > limit}
