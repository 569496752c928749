"""Which degree each site gets: the least depth for an error, or the least error for a depth, by CP-SAT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hecompile.approx.fits import Floats, depth

__all__ = ["allocate"]

RESOLUTION = 10**6  # steps of the error budget, or of the least error there can be
LARGEST = 10**13  # a site's error in these steps at most: what is worse is never chosen where a choice is left


def allocate(
    damage: Floats, degrees: Sequence[int], *, most_damage: float | None = None, most_depth: int | None = None
) -> list[int] | None:
    """The degree of each site; None if no choice keeps the limit.

    Args:
        damage: squared error of the output, (sites, degrees), that a site's polynomial of a degree adds. Errors add up.
        most_damage: take the least total depth within this error, and of equal depths the least sum of degrees.
        most_depth: take the least error within this total depth.
    """
    from ortools.sat.python import cp_model

    usable = np.where(np.isfinite(damage), damage, np.inf)
    unit = (most_damage if most_damage is not None else max(usable.min(axis=1).sum(), 1e-30)) / RESOLUTION
    steps = np.ceil(np.minimum(usable / unit, LARGEST)).astype(np.int64)
    depths = [depth(degree) for degree in degrees]
    model = cp_model.CpModel()
    chosen: list[list[Any]] = [[model.new_bool_var(f"{site}_{degree}") for degree in degrees] for site in range(len(damage))]
    for row in chosen:
        model.add_exactly_one(row)
    error = sum(cp_model.LinearExpr.weighted_sum(row, list(map(int, cost))) for row, cost in zip(chosen, steps, strict=True))
    total = sum(cp_model.LinearExpr.weighted_sum(row, depths) for row in chosen)
    if most_damage is not None:
        model.add(error <= RESOLUTION)
        most = len(damage) * max(degrees) + 1
        model.minimize(most * total + sum(cp_model.LinearExpr.weighted_sum(row, list(degrees)) for row in chosen))
    if most_depth is not None:
        model.add(total <= most_depth)
        model.minimize(error)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers, solver.parameters.random_seed = 1, 0
    solver.parameters.max_deterministic_time = 10
    if solver.status_name(solver.solve(model)) not in ("OPTIMAL", "FEASIBLE"):
        return None
    return [next(degree for degree, variable in zip(degrees, row, strict=True) if solver.value(variable)) for row in chosen]
