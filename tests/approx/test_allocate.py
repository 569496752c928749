"""The allocation against every choice of small problems."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from hecompile.approx.allocate import allocate
from hecompile.approx.fits import depth

DEGREES = (1, 3, 5, 7)


def problem(seed: int) -> np.ndarray:
    """Four sites, each of which gains by degree, some more than others."""
    rng = np.random.default_rng(seed)
    return np.cumprod(rng.uniform(0.01, 0.5, (4, len(DEGREES))), axis=1)


def cost(damage: np.ndarray, places: tuple[int, ...]) -> tuple[float, int, int]:
    degrees = [DEGREES[place] for place in places]
    return float(damage[range(4), places].sum()), sum(map(depth, degrees)), sum(degrees)


@pytest.mark.parametrize("seed", range(4))
def test_against_every_choice(seed: int) -> None:
    damage = problem(seed)
    every = [cost(damage, places) for places in product(range(len(DEGREES)), repeat=4)]
    for most_depth in (4, 7, 10):
        chosen = allocate(damage, DEGREES, most_depth=most_depth)
        assert chosen is not None
        best = min(error for error, total, _ in every if total <= most_depth)
        assert cost(damage, tuple(map(DEGREES.index, chosen)))[0] == pytest.approx(best, rel=1e-5)
    most_damage = float(np.median([error for error, *_ in every]))
    chosen = allocate(damage, DEGREES, most_damage=most_damage)
    assert chosen is not None
    assert chosen == allocate(damage, DEGREES, most_damage=most_damage)
    found = cost(damage, tuple(map(DEGREES.index, chosen)))
    assert found[0] <= most_damage
    assert found[1:] == min((total, degrees) for error, total, degrees in every if error <= most_damage * (1 - 1e-5))


def test_what_cannot_be_kept_is_none() -> None:
    assert allocate(problem(0), DEGREES, most_depth=3) is None
    assert allocate(problem(0), DEGREES, most_damage=1e-12) is None


def test_a_polynomial_that_explodes_is_not_chosen() -> None:
    damage = problem(0)
    damage[:, 1:3] = np.inf
    chosen = allocate(damage, DEGREES, most_depth=12)
    assert chosen == [7, 7, 7, 7]
