"""Degrees for all sites: one for all, the best that a total depth buys, or the least depth for a promised PSNR."""

from __future__ import annotations

import numpy as np

from hecompile.approx.allocate import allocate
from hecompile.approx.fits import Floats, depth
from hecompile.approx.judge import DEGREES, Judge
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.graph import info
from hecompile.ir.printing import print_node

__all__ = ["MARGIN_DB", "Degrees", "for_budget", "for_depth", "uniform"]

Degrees = dict[str, int]  # by site
MARGIN_DB = 3.0  # between what the trial must reach and what is promised for other inputs, whose width differs too
ATTEMPTS = 8  # errors do not quite add up: the budget is corrected by what was measured


def uniform(judge: Judge, degree: int) -> Degrees:
    """The same degree everywhere."""
    return dict.fromkeys(judge.fitter.sites, degree)


def for_depth(judge: Judge, total_depth: int) -> Degrees:
    """The best within a total depth. Raises `CompileError` if it is less than one for each site."""
    chosen = allocate(judge.damages(), DEGREES, most_depth=total_depth)
    if chosen is None:
        count = len(judge.fitter.sites)
        raise CompileError(
            Diagnostic(f"a total depth of {total_depth} is not enough for {count} sites", help=f"each needs one: at least {count}")
        )
    return dict(zip(judge.fitter.sites, chosen, strict=True))


def for_budget(judge: Judge, budget_db: float) -> Degrees:
    """The least total depth whose trial reaches the budget and its margin.

    Raises:
        CompileError: if no degrees do; names the site that stands in the way and the best that can be had.
    """
    names, damages = list(judge.fitter.sites), judge.damages()
    width = float(judge.reference.max() - judge.reference.min())
    wanted = goal = budget_db + MARGIN_DB
    for _ in range(ATTEMPTS):
        room = width**2 / 10 ** (goal / 10) - judge.least_damage()
        chosen = allocate(damages, DEGREES, most_damage=room) if room > 0 else None
        if chosen is None:
            break
        degrees = dict(zip(names, chosen, strict=True))
        reached = judge.psnr_db(degrees)
        if reached >= wanted:
            return degrees
        goal += max(wanted - reached, 0.1)
    best = {name: DEGREES[place] for name, place in zip(names, damages.argmin(axis=1), strict=True)}
    reached = judge.psnr_db(best)
    if reached >= wanted:
        return best
    raise CompileError(_refusal(judge, damages, budget_db, reached))


def _refusal(judge: Judge, damages: Floats, budget_db: float, reached: float) -> Diagnostic:
    least = damages.min(axis=1)
    place = int(np.argmax(least))
    site = list(judge.fitter.sites.values())[place]
    best = f"the best that can be had is {reached - MARGIN_DB:.1f} dB"
    if judge.least_damage() > least.sum():
        return Diagnostic(f"a budget of {budget_db:g} dB cannot be met: the norms stand in the way; {best}", help="--norms exact")
    degree = DEGREES[int(damages[place].argmin())]
    return Diagnostic(
        f"a budget of {budget_db:g} dB cannot be met: {site.name} stands in the way even at degree {degree} "
        f"(depth {depth(degree)}); {best}",
        source=info(site.node).source,
        line=print_node(site.node),
        help=f"--budget-db {int(np.floor(reached - MARGIN_DB))}, or another --fit or --norms",
    )
