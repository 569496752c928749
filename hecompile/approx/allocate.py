"""Chooses the degree of each site by CP-SAT: the least total depth for an error, or the least error for a total depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hecompile.approx.fits import Floats, depth

__all__ = ["allocate"]

RESOLUTION = 10**6  # integer steps of the error budget, or of the least possible error if there is no budget
LARGEST = 10**13  # errors are cut off at this many steps, so that sums fit 64 bits


def allocate(
    distortion: Floats, degrees: Sequence[int], *, most_distortion: float | None = None, most_depth: int | None = None
) -> list[int] | None:
    """Return the degree of each site in order, or None if no choice keeps the limit.

    Args:
        distortion: squared error of the output, (sites, degrees), that a site's polynomial of a degree adds. Errors add up.
        most_distortion: take the least total depth within this error, and of equal depths the least sum of degrees.
        most_depth: take the least error within this total depth.
    """
    from ortools.sat.python import cp_model

    usable = np.where(np.isfinite(distortion), distortion, np.inf)
    unit = (most_distortion if most_distortion is not None else max(usable.min(axis=1).sum(), 1e-30)) / RESOLUTION
    steps = np.ceil(np.minimum(usable / unit, LARGEST)).astype(np.int64)
    depths = [depth(degree) for degree in degrees]
    model = cp_model.CpModel()
    variables: list[list[Any]] = [[model.new_bool_var(f"{site}_{degree}") for degree in degrees] for site in range(len(distortion))]
    for row in variables:
        model.add_exactly_one(row)
    error = sum(cp_model.LinearExpr.weighted_sum(row, list(map(int, cost))) for row, cost in zip(variables, steps, strict=True))
    total = sum(cp_model.LinearExpr.weighted_sum(row, depths) for row in variables)
    if most_distortion is not None:
        model.add(error <= RESOLUTION)
        most = len(distortion) * max(degrees) + 1
        model.minimize(most * total + sum(cp_model.LinearExpr.weighted_sum(row, list(degrees)) for row in variables))
    if most_depth is not None:
        model.add(total <= most_depth)
        model.minimize(error)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers, solver.parameters.random_seed = 1, 0
    solver.parameters.max_deterministic_time = 10
    if solver.status_name(solver.solve(model)) not in ("OPTIMAL", "FEASIBLE"):
        return None
    return [next(degree for degree, variable in zip(degrees, row, strict=True) if solver.value(variable)) for row in variables]
