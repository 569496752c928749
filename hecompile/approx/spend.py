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
CLOSE_DB, MOST_DB = 0.5, 6.0  # what is near enough above the budget, and the largest correction at once


def uniform(judge: Judge, degree: int) -> Degrees:
    """The same degree everywhere."""
    return dict.fromkeys(judge.fitter.sites, degree)


def for_depth(judge: Judge, total_depth: int) -> Degrees:
    """The best within a total depth: the allocation, or the largest degree that fits everywhere.

    Raises:
        CompileError: if it is less than one for each site.
    """
    names = list(judge.fitter.sites)
    chosen = allocate(judge.damages(), DEGREES, most_depth=total_depth)
    if chosen is None:
        few = f"a total depth of {total_depth} is not enough for {len(names)} sites"
        raise CompileError(Diagnostic(few, help=f"each needs one: at least {len(names)}"))
    everywhere = [min(2 ** (total_depth // len(names)) - 1, DEGREES[-1])] * len(names)
    different = [list(each) for each in dict.fromkeys(map(tuple, (chosen, everywhere)))]
    return max((dict(zip(names, each, strict=True)) for each in different), key=judge.psnr_db)


def for_budget(judge: Judge, budget_db: float) -> Degrees:
    """The least total depth whose trial reaches the budget and its margin.

    Raises:
        CompileError: if no degrees do; names the site that stands in the way and the best that can be had.
    """
    names, damages = list(judge.fitter.sites), judge.damages()
    width = float(judge.reference.max() - judge.reference.min())
    wanted = goal = budget_db + MARGIN_DB
    tried = dict[tuple[int, ...], float]()
    for _ in range(ATTEMPTS):
        room = width**2 / 10 ** (goal / 10) - judge.least_damage()
        chosen = allocate(damages, DEGREES, most_damage=room) if room > 0 else None
        if chosen is None or tuple(chosen) in tried:
            break
        reached = tried[tuple(chosen)] = judge.psnr_db(dict(zip(names, chosen, strict=True)))
        if 0 <= reached - wanted < CLOSE_DB:
            break
        goal += float(np.clip(wanted - reached, -MOST_DB, MOST_DB)) + CLOSE_DB / 2
    kept = [degrees for degrees, reached in tried.items() if reached >= wanted]
    if kept:
        return dict(zip(names, min(kept, key=lambda each: (sum(map(depth, each)), sum(each))), strict=True))
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
        help=f"--budget-db {int(np.floor(reached - MARGIN_DB))}, or another --norms",
    )
