"""The selection is exact: within its budget, of maximal cardinality, and what the paper reports on Gaussian latents."""

from __future__ import annotations

from itertools import combinations, pairwise
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from hecompile.errors import CompileError
from hecompile.ir.linear import Array
from hecompile.sparsity.importance import distortion_function
from hecompile.sparsity.selection import Grouping, Masks, nested_masks, select, static_mask

# whole numbers add up exactly, and a tau of 2^-k multiplies exactly: the properties hold without a tolerance
distortions = arrays(np.float64, array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.integers(0, 1000).map(float))
taus = st.integers(0, 255).map(lambda numerator: numerator / 256)


@given(distortions, taus)
def test_never_over_budget_and_of_maximal_cardinality(distortion: Array, tau: float) -> None:
    clear = ~select(distortion, tau)
    budget = tau * distortion.sum()
    assert distortion[clear].sum() <= budget
    rest = distortion[~clear]
    if rest.size:  # the cheapest k + 1 entries are above the budget: so is any other k + 1
        assert np.sort(distortion, axis=None)[: clear.sum() + 1].sum() > budget


@given(arrays(np.float64, st.just((1, 2, 4)), elements=st.integers(0, 20).map(float)), taus)
def test_a_brute_force_agrees(distortion: Array, tau: float) -> None:
    values, budget = distortion.ravel(), tau * distortion.sum()
    most = max(k for k in range(9) if any(sum(choice) <= budget for choice in combinations(values, k)))
    assert (~select(distortion, tau)).sum() == most


@given(distortions, taus, st.sampled_from(["tile", "channel"]), st.integers(1, 3))
def test_groups_stay_together_within_the_same_budget(distortion: Array, tau: float, kind: str, repeat: int) -> None:
    grown = distortion.repeat(2, axis=1).repeat(repeat, axis=2)
    mask = select(grown, tau, Grouping(kind, (2, repeat)))  # type: ignore[arg-type]
    assert grown[~mask].sum() <= tau * grown.sum()
    block = (2, repeat) if kind == "tile" else grown.shape[1:]
    tiles = mask.reshape(len(mask), grown.shape[1] // block[0], block[0], -1, block[1])
    assert ((tiles.sum(axis=(2, 4)) % prod(block)) == 0).all()


@given(arrays(np.float64, (3, 4, 4), elements=st.floats(0, 1e6)), st.floats(0, 0.999))
def test_floats_keep_the_budget_up_to_their_rounding(distortion: Array, tau: float) -> None:
    assert distortion[~select(distortion, tau)].sum() <= tau * distortion.sum() * (1 + 1e-12)


SHARES = {0.005: 0.078, 0.01: 0.111, 0.05: 0.249, 0.1: 0.352, 0.2: 0.495, 0.5: 0.763, 0.9: 0.969}


@pytest.mark.parametrize("name", ["magnitude", "hill"])
@pytest.mark.parametrize(("tau", "share"), SHARES.items())
def test_the_share_in_clear_of_gaussian_latents_is_the_papers(name: str, tau: float, share: float) -> None:
    latents = np.random.default_rng(0).standard_normal((4, 4, 64, 64))
    shares = [1 - select(distortion_function(name)(latent), tau).mean() for latent in latents]
    assert np.mean(shares) == pytest.approx(share, abs=0.01)


@given(st.lists(arrays(np.float64, (2, 3, 3), elements=st.integers(1, 50).map(float)), min_size=1, max_size=5), taus)
def test_a_static_mask_is_the_selection_of_the_mean_share(samples: list[Array], tau: float) -> None:
    mean = np.mean([sample / sample.sum() for sample in samples], axis=0)
    assert np.array_equal(static_mask(samples, tau), select(mean, tau))


@given(
    st.dictionaries(
        st.integers(0, 19), st.lists(arrays(np.float64, (2, 3, 3), elements=st.floats(0.1, 50)), min_size=1, max_size=3), min_size=1
    ),
    st.floats(0, 0.999),
)
@settings(max_examples=30)
def test_masks_of_bins_are_nested_and_each_within_its_budget(samples: dict[int, list[Array]], tau: float) -> None:
    masks = nested_masks(samples, tau)
    ordered = sorted(masks.values(), key=lambda mask: mask.sum())
    for smaller, larger in pairwise(ordered):
        assert not (smaller & ~larger).any()
    for place, mask in masks.items():
        mean = np.mean([sample / sample.sum() for sample in samples[place]], axis=0)
        assert mean[~mask].sum() <= tau + 1e-12


def test_masks_are_looked_up_by_timestep() -> None:
    values = np.zeros((20, 1, 1, 20), np.bool_)
    values[np.arange(20), 0, 0, np.arange(20)] = True
    masks = Masks(values)
    assert [int(masks.at(t).argmax()) for t in (0, 49.9, 50, 843.356, 999, 5000)] == [0, 0, 1, 16, 19, 19]
    one = Masks(values[:1])
    assert one.at(0) is not one.at(999) or np.array_equal(one.at(0), one.at(999))


@pytest.mark.parametrize("tau", [-0.1, 1.0, 2.0, float("nan")])
def test_a_tau_that_is_no_share_is_refused(tau: float) -> None:
    with pytest.raises(CompileError, match="tau"):
        select(np.ones((1, 2, 2)), tau)


def test_what_cannot_be_selected_is_refused() -> None:
    with pytest.raises(CompileError, match="not negative"):
        select(-np.ones((1, 2, 2)), 0.1)
    with pytest.raises(CompileError, match="do not divide"):
        select(np.ones((1, 5, 4)), 0.1, Grouping("tile", (2, 2)))
    with pytest.raises(CompileError, match="granularity"):
        Grouping("row")  # type: ignore[arg-type]
    with pytest.raises(CompileError, match="no entries"):
        Grouping("tile", (0, 2))
    with pytest.raises(CompileError, match="no entry is more important"):
        static_mask([np.zeros((1, 2, 2))], 0.1)
    with pytest.raises(CompileError, match="bins, C, H, W"):
        Masks(np.zeros((2, 2), np.bool_))
