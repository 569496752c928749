"""The allocation against every choice of small problems."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from hecompile.approx.allocate import allocate
from hecompile.approx.fits import depth
from hecompile.ir.linear import Array

DEGREES = (1, 3, 5, 7)


def problem(seed: int) -> Array:
    """Four sites, each of which gains by degree, some more than others."""
    rng = np.random.default_rng(seed)
    return np.cumprod(rng.uniform(0.01, 0.5, (4, len(DEGREES))), axis=1)


def cost(distortion: Array, places: tuple[int, ...]) -> tuple[float, int, int]:
    degrees = [DEGREES[place] for place in places]
    return float(distortion[range(4), places].sum()), sum(map(depth, degrees)), sum(degrees)


@pytest.mark.parametrize("seed", range(4))
def test_against_every_choice(seed: int) -> None:
    distortion = problem(seed)
    every = [cost(distortion, places) for places in product(range(len(DEGREES)), repeat=4)]
    for most_depth in (4, 7, 10):
        allocation = allocate(distortion, DEGREES, most_depth=most_depth)
        assert allocation is not None
        best = min(error for error, total, _ in every if total <= most_depth)
        assert cost(distortion, tuple(map(DEGREES.index, allocation)))[0] == pytest.approx(best, rel=1e-5)
    most_distortion = float(np.median([error for error, *_ in every]))
    allocation = allocate(distortion, DEGREES, most_distortion=most_distortion)
    assert allocation is not None
    assert allocation == allocate(distortion, DEGREES, most_distortion=most_distortion)
    outcome = cost(distortion, tuple(map(DEGREES.index, allocation)))
    assert outcome[0] <= most_distortion
    assert outcome[1:] == min((total, degrees) for error, total, degrees in every if error <= most_distortion * (1 - 1e-5))


def test_what_cannot_be_kept_is_none() -> None:
    assert allocate(problem(0), DEGREES, most_depth=3) is None
    assert allocate(problem(0), DEGREES, most_distortion=1e-12) is None


def test_a_polynomial_that_explodes_is_not_chosen() -> None:
    distortion = problem(0)
    distortion[:, 1:3] = np.inf
    allocation = allocate(distortion, DEGREES, most_depth=12)
    assert allocation == [7, 7, 7, 7]
