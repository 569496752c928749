"""Which degree each site gets: the least depth for an error, or the least error for a depth, by CP-SAT; then by exchanges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hecompile.approx.fits import Floats, depth

__all__ = ["allocate", "exchanged"]

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


def exchanged(effects: Floats, degrees: Sequence[int], chosen: Sequence[int], most_depth: int) -> list[int]:
    """Degrees of less error within a total depth: what two sites have is changed, for as long as that helps by a thousandth.

    Args:
        effects: (sites, degrees, paths), the error is the mean over paths of the square of their sum over sites.
    """
    usable = np.nan_to_num(effects, nan=1e100, posinf=1e100, neginf=-1e100)
    depths, sites = np.array([depth(degree) for degree in degrees]), np.arange(len(effects))
    places = np.array([list(degrees).index(degree) for degree in chosen])
    while True:
        total, spent = usable[sites, places].sum(axis=0), depths[places].sum()
        best, move = float(np.mean(total**2)) * 0.999, None
        for first in sites:
            for place in range(len(degrees)):
                base = total - usable[first, places[first]] + usable[first, place]
                others = base - usable[sites, places][:, None] + usable  # (sites, degrees, paths)
                cost = np.mean(np.square(others[sites != first]), axis=2)
                left = most_depth - spent + depths[places[first]] - depths[place] + depths[places[sites != first]]
                cost = np.where(depths <= left[:, None], cost, np.inf)
                if cost.size and cost.min() < best:
                    other, new = np.unravel_index(int(cost.argmin()), cost.shape)
                    best, move = float(cost.min()), {int(first): place, int(sites[sites != first][other]): int(new)}
        if move is None:
            return [degrees[place] for place in places]
        for site, place in move.items():
            places[site] = place
