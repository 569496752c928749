"""Chooses the degrees of all sites: one for all, the best ones within a total depth, or the least depth for a promised PSNR."""

from __future__ import annotations

import numpy as np

from hecompile.approx.allocate import allocate
from hecompile.approx.fits import Floats, depth
from hecompile.approx.quality import DEGREES, Quality
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.graph import info
from hecompile.ir.printing import print_node

__all__ = ["MARGIN_DB", "Degrees", "for_budget", "for_depth", "uniform"]

Degrees = dict[str, int]  # by site
MARGIN_DB = 3.0  # between what the validation run must reach and what is promised for other inputs, whose width differs too
ATTEMPTS = 8  # to correct the error budget by the measured error, since errors of sites do not quite add up
CLOSE_DB, MOST_DB = 0.5, 6.0  # how far above the budget is near enough, and the largest correction in one attempt


def uniform(quality: Quality, degree: int) -> Degrees:
    """The same degree for every site."""
    return dict.fromkeys(quality.fitter.sites, degree)


def for_depth(quality: Quality, total_depth: int) -> Degrees:
    """The degrees with the best measured PSNR within a total depth: those of `allocate`, or the largest equal degree for all.

    Raises:
        CompileError: if the total depth is less than one for each site.
    """
    names = list(quality.fitter.sites)
    allocated = allocate(quality.distortions(), DEGREES, most_depth=total_depth)
    if allocated is None:
        message = f"a total depth of {total_depth} is not enough for {len(names)} sites"
        raise CompileError(Diagnostic(message, help=f"each site needs a depth of one: at least {len(names)}"))
    everywhere = [min(2 ** (total_depth // len(names)) - 1, DEGREES[-1])] * len(names)
    choices = dict.fromkeys(map(tuple, (allocated, everywhere)))
    return max((dict(zip(names, choice, strict=True)) for choice in choices), key=quality.psnr_db)


def for_budget(quality: Quality, budget_db: float) -> Degrees:
    """The degrees of the least total depth with which the validation run reaches the budget and `MARGIN_DB` more.

    Raises:
        CompileError: if no degrees do, naming the site with the largest error and the best possible PSNR.
    """
    names, distortions = list(quality.fitter.sites), quality.distortions()
    width = float(quality.reference.max() - quality.reference.min())
    wanted = goal = budget_db + MARGIN_DB
    tried = dict[tuple[int, ...], float]()
    for _ in range(ATTEMPTS):
        room = width**2 / 10 ** (goal / 10) - quality.least_distortion()
        allocated = allocate(distortions, DEGREES, most_distortion=room) if room > 0 else None
        if allocated is None or tuple(allocated) in tried:
            break
        reached = tried[tuple(allocated)] = quality.psnr_db(dict(zip(names, allocated, strict=True)))
        if 0 <= reached - wanted < CLOSE_DB:
            break
        goal += float(np.clip(wanted - reached, -MOST_DB, MOST_DB)) + CLOSE_DB / 2
    kept = [degrees for degrees, reached in tried.items() if reached >= wanted]
    if kept:
        return dict(zip(names, min(kept, key=lambda choice: (sum(map(depth, choice)), sum(choice))), strict=True))
    best = {name: DEGREES[place] for name, place in zip(names, distortions.argmin(axis=1), strict=True)}
    reached = quality.psnr_db(best)
    if reached >= wanted:
        return best
    raise CompileError(_refusal(quality, distortions, budget_db, reached))


def _refusal(quality: Quality, distortions: Floats, budget_db: float, reached: float) -> Diagnostic:
    """The error that says why a budget cannot be met: because of the norms, or of the site with the largest error."""
    least = distortions.min(axis=1)
    place = int(np.argmax(least))
    site = list(quality.fitter.sites.values())[place]
    best = f"the best that can be reached is {reached - MARGIN_DB:.1f} dB"
    if quality.least_distortion() > least.sum():
        return Diagnostic(
            f"a budget of {budget_db:g} dB cannot be met: replacing the norms costs too much; {best}", help="--norms exact"
        )
    degree = DEGREES[int(distortions[place].argmin())]
    return Diagnostic(
        f"a budget of {budget_db:g} dB cannot be met: {site.name} costs too much even at degree {degree} "
        f"(depth {depth(degree)}); {best}",
        source=info(site.node).source,
        line=print_node(site.node),
        help=f"--budget-db {int(np.floor(reached - MARGIN_DB))}, or another --norms",
    )
