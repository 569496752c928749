"""Ranges hold what more of the same data brings, where the extremes of what was seen do not."""

from __future__ import annotations

import numpy as np
import pytest

from hecompile.approx.ranges import ranges
from hecompile.calibration import NodeStatistics
from hecompile.ir.linear import Array

BINS, ENTRIES, VALUES = 5, 50, 512


def statistics(extremes: list[Array]) -> NodeStatistics:
    """Of which only extremes are read."""
    nothing = np.zeros(len(extremes))
    return NodeStatistics(nothing, nothing, nothing, nothing, nothing, nothing, nothing, tuple(extremes))


def drawn(law: str, entries: int, rng: np.random.Generator) -> Array:
    size = (entries, VALUES)
    values = rng.standard_normal(size) if law == "normal" else rng.laplace(size=size)
    return np.stack([values.min(1), values.max(1)], 1)


def share_outside(extremes: Array, low: float, high: float) -> float:
    return float(np.mean((extremes[:, 0] < low) | (extremes[:, 1] > high)))


@pytest.mark.parametrize("law", ["normal", "laplace"])
def test_new_data_stays_inside(law: str) -> None:
    rng = np.random.default_rng(0)
    seen = [drawn(law, ENTRIES, rng) for _ in range(BINS)]
    new = drawn(law, 5000, rng)
    low, high = ranges(statistics(seen), [2], positive=False)[0]
    assert share_outside(new, low, high) <= 2e-3  # 2e-4 is meant, of 250 entries it is known to a factor
    assert share_outside(new, float(seen[2].min()), float(seen[2].max())) > 1e-2
    margin = 0.05 * (np.concatenate(seen)[:, 1].max() - np.concatenate(seen)[:, 0].min())
    assert high >= np.concatenate(seen)[:, 1].max() + margin * 0.999


def test_the_extremes_of_near_bins_count_and_those_of_far_ones_do_not() -> None:
    seen = [np.array([[-1.0, 1.0]]) for _ in range(9)]
    seen[6] = np.array([[-1.0, 9.0]])
    bounds = ranges(statistics(seen), list(range(9)), positive=False)
    assert [high > 9 for _, high in bounds] == [False] * 4 + [True] * 5


def test_positive_values_keep_a_positive_range() -> None:
    rng = np.random.default_rng(0)
    low, high = ranges(statistics([np.exp(3 * drawn("normal", ENTRIES, rng))]), [0], positive=True)[0]
    new = np.exp(3 * drawn("normal", 5000, rng))
    assert low > 0
    assert share_outside(new, low, high) <= 2e-3


def test_a_constant_gets_a_width() -> None:
    low, high = ranges(statistics([np.full((4, 2), 3.0)]), [0], positive=False)[0]
    assert low < 3 < high
