"""Rotations and diagonals against the matrix itself."""

from __future__ import annotations

import numpy as np
import pytest

from hecompile.backends.ckks.diagonals import Entries, diagonals
from hecompile.ir.linear import Array


def apply(entries: Entries, x: Array) -> Array:
    """The product of the entries with `x`, computed by the plan's rotations and added up to one period of the result."""
    plan = diagonals(entries, [])
    length = max(entries.source_period, entries.result_period)
    x = np.tile(x, length // len(x))
    babies = {0: x}
    for baby in plan.babies[1:]:
        babies[baby.steps] = np.roll(babies[baby.parent], -baby.key)
    total = np.zeros(length)
    for k in range(plan.giants[0][0], -1, -1):
        total = np.roll(total, -plan.giant_step)
        for giant, steps, row in plan.giants:
            if giant == k:
                total += sum(babies[step] * plan.vectors[row + place] for place, step in enumerate(steps))
    return total.reshape(-1, entries.result_period).sum(axis=0) if length > entries.result_period else total


@pytest.mark.parametrize(("source", "result"), [(32, 32), (64, 16), (16, 64)])
@pytest.mark.parametrize("seed", range(4))
def test_the_plan_is_the_matrix(source: int, result: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 60))
    places = np.unique(rng.integers(0, [result, source], (count, 2)), axis=0)
    entries = Entries(places[:, 0], places[:, 1], rng.standard_normal(len(places)), source, result)
    matrix = np.zeros((result, source))
    matrix[places[:, 0], places[:, 1]] = entries.weights
    x = rng.standard_normal(source)
    np.testing.assert_allclose(apply(entries, x), matrix @ x, atol=1e-12)


def test_a_convolution_takes_few_rotations_and_fewer_keys() -> None:
    """16 -> 16 channels on 8x8: nine taps and sixteen channel offsets."""
    y, x = np.divmod(np.arange(64), 8)
    near = (abs(y[:, None] - y) <= 1) & (abs(x[:, None] - x) <= 1)
    rows, columns = np.nonzero(np.kron(np.ones((16, 16)), near))
    plan = diagonals(Entries(rows, columns, np.ones(len(rows)), 1024, 1024), [])
    assert (plan.rotations, len(plan.vectors)) == (8 + 15, 144)
    assert len({baby.key for baby in plan.babies} - {0}) == 4
