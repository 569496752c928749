"""Explains that no plan keeps the budgets: names the budgets that were set, and limits that would be enough."""

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

SHARES = 1000  # excesses are compared in this fraction of a total's range
DIGITS = 4  # digits of a limit that would be enough, rounded up
WORDS = {  # for every budget its flag, and its limit in words
    "client_s": ("--client-seconds", "{} CPU seconds of the client"),
    "rounds": ("--most-rounds", "{} requests in a row"),
    "client_weights_mib": ("--client-weights-mib", "{} MiB of weights at the client"),
    "distortion": ("--most-distortion", "a relative variance of {} in the output"),
    "leakage": ("--most-leakage", "a share of {} of the layers' secret inputs revealed"),
    "server_mib": ("--server-mib", "{} MiB of memory at the server"),
    "mb_first": ("--most-mb-first", "{} MB in the first call of a run"),
    "mb_later": ("--most-mb-later", "{} MB in every later call"),
}


def unkept(problem: Problem, budgets: Budgets, pins: Mapping[str, str]) -> Diagnostic:
    """Return the error that no plan keeps these budgets, with the smallest limit for each that would be enough, the others
    unchanged.

    If no single limit is enough, it names the limits of the plan that exceeds all budgets together by the least.
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
    """Round up to a few digits."""
    if value == int(value) or value <= 0:
        return value
    step = 10.0 ** (math.floor(math.log10(value)) - DIGITS + 1)
    return float(f"{math.ceil(value / step * (1 + 1e-9)) * step:.{DIGITS}g}")


def _least(problem: Problem, budgets: Budgets, pins: Mapping[str, str], name: str) -> float | None:
    """Return the smallest total that a plan within the other budgets has; None if there is no such plan."""
    model = PlanModel(problem, pins)
    model.keep(replace(budgets, **{name: None}))
    total = model.measured(name)
    model.cp.minimize(total.amount)
    solver = model.solve()
    return None if solver is None else total.value(solver.value(total.amount))


def _nearest(problem: Problem, limits: Mapping[str, float], pins: Mapping[str, str]) -> dict[str, float]:
    """Return the totals above their limits, for the plan with the least sum of excesses, each as a share of the total's range."""
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
