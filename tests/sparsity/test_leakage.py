"""Leakage is that of all steps together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hecompile.errors import CompileError
from hecompile.ir.linear import Array
from hecompile.sparsity.leakage import leakage


def mask(*encrypted: bool) -> Array:
    return np.array(encrypted).reshape(1, 1, -1)


def test_an_entry_clear_at_two_consecutive_steps_gives_its_noise_prediction() -> None:
    apart = leakage([mask(False, True), mask(True, True), mask(False, True)])
    assert (apart.latent_entries, apart.noise_entries, apart.latent_values) == (1, 0, 2)
    together = leakage([mask(False, True), mask(False, True)])
    assert (together.latent_entries, together.noise_entries, together.noise_values) == (1, 1, 1)


def test_the_union_counts() -> None:
    leak = leakage([mask(False, True, True), mask(True, False, True)])
    assert leak.fraction == pytest.approx(2 / 3)


def test_a_revealed_prediction_counts_at_every_step() -> None:
    leak = leakage([mask(False, True), mask(True, True)], noise_revealed=True)
    assert (leak.noise_entries, leak.noise_values) == (1, 1)


@given(st.lists(arrays(np.bool_, (2, 2, 3)), min_size=1, max_size=6))
def test_counts_are_those_of_a_loop(masks: list[Array]) -> None:
    leak = leakage(masks)
    latent, noise = set(), set()
    for step, encrypted in enumerate(masks):
        for place in map(tuple, np.argwhere(~encrypted)):
            latent.add(place)
            if step and not masks[step - 1][place]:
                noise.add(place)
    assert (leak.latent_entries, leak.noise_entries) == (len(latent), len(noise))
    assert leak.noise_entries <= leak.latent_entries <= leak.entries == 12


def test_no_steps_are_refused() -> None:
    with pytest.raises(CompileError, match="at least one step"):
        leakage([])
