"""The baselines compute the step, and the paper's search overshoots its budget by one entry, as its authors' does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.baselines import he_diffusion as baselines
from hecompile.sparsity.importance import hill_summed
from hecompile.sparsity.selection import select

X, E = np.random.default_rng(3).standard_normal((2, 2, 16, 16))


@pytest.fixture(scope="module")
def keys() -> Any:
    return baselines.context()


def test_every_baseline_computes_the_step(keys: Any) -> None:
    want = 1.05 * X - 0.1 * E
    for result in (
        baselines.packed_dense(keys, X, E, 1.05, -0.1),
        baselines.packed_dense_both(keys, X, E, 1.05, -0.1),
        baselines.paper(keys, X, E, 1.05, -0.1, 0.01),
        baselines.paper(keys, X, E, 1.05, -0.1, 0.01, by_index=False),
    ):
        assert np.abs(result - want).max() < 0.02
    assert np.abs(baselines.per_scalar(keys, X, E, 1.05, -0.1, 5) - want.ravel()[:5]).max() < 0.02


@pytest.mark.parametrize("tau", [0.01, 0.1, 0.5])
def test_the_search_passes_its_budget_by_its_last_entry(tau: float) -> None:
    distortion = hill_summed(X)
    clear = ~baselines.search(distortion, tau)
    exact = ~select(distortion, tau)
    assert distortion[clear].sum() > tau * distortion.sum() >= distortion[exact].sum()
    assert clear.sum() == exact.sum() + 1
    assert (clear >= exact).all()
