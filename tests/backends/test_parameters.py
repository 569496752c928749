"""Choosing parameters: the bound by which packings are left out is below every choice, so nothing better is left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hecompile.backends.bfv import choose as search
from hecompile.backends.bfv.choose import Choice, Weights, choose
from hecompile.backends.bfv.packing import layouts
from hecompile.ir.layer_groups import stacks
from hecompile.ir.linear import Geometry, conv2d, linear
from hecompile.machine import Machine
from hecompile.predict import partitioned

MACHINES = st.builds(Machine, bandwidth_mbps=st.sampled_from([0.1, 10.0, 1e9]), encrypt_us=st.sampled_from([1.0, 400.0]))


@st.composite
def layers(draw: st.DrawFn) -> tuple[Geometry, np.ndarray]:
    """Small convolutions and linear layers with int8 weights of any size."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    channels, outputs, size = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.sampled_from([1, 4, 8, 20]))
    peak = draw(st.sampled_from([1, 20, 127]))
    if draw(st.booleans()):
        return linear(rng.integers(-peak, peak + 1, (outputs, channels)), size)
    stride = draw(st.sampled_from([1, 2]))
    return conv2d(rng.integers(-peak, peak + 1, (outputs, channels, 3, 3)), (size, size), (stride, stride), (1, 1), (1, 1), 1)


def without_pruning(weights: Weights, elements: int, machine: Machine) -> Choice | None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_floor", lambda *_: 0.0)
        return choose(weights, elements, machine)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(layer=layers(), machine=MACHINES, t_bits=st.integers(16, 33), elements=st.sampled_from([1, 5]))
def test_no_choice_is_below_the_bound(layer: tuple[Geometry, np.ndarray], machine: Machine, t_bits: int, elements: int) -> None:
    geometry, values = layer
    weights = Weights(geometry, values.astype(np.int8))
    for layout in layouts(geometry, 2048, elements):
        norms = weights.answer_norms(layout)
        floors = [search._floor(layout, q_bits, t_bits, machine) for q_bits in range(30, 61)]
        assert floors == sorted(floors)  # so that the first of a range is below all of it
        for kind in ("worst-case", "probabilistic"):
            for q_bits, floor in zip(range(30, 61), floors, strict=True):
                found = search._best_q(kind, layout, norms, (t_bits, 127), range(q_bits, q_bits + 1), machine)  # type: ignore[arg-type]
                assert found is None or floor <= found.seconds


@settings(max_examples=6, deadline=None)
@given(layer=layers(), machine=MACHINES, elements=st.sampled_from([1, 3]))
def test_small_layers_get_what_they_get_without_pruning(
    layer: tuple[Geometry, np.ndarray], machine: Machine, elements: int
) -> None:
    weights = Weights(layer[0], layer[1].astype(np.int8))
    found, best = choose(weights, elements, machine), without_pruning(weights, elements, machine)
    assert found is not None
    assert best is not None
    assert found.seconds == best.seconds


@pytest.mark.slow
def test_the_layers_of_digits_get_what_they_get_without_pruning() -> None:
    for each in stacks(partitioned("digits"))[::5]:
        weights = Weights(each.geometry, each.weights)
        for machine in (Machine(), Machine(bandwidth_mbps=1.0)):
            found, best = choose(weights, each.multiple, machine), without_pruning(weights, each.multiple, machine)
            assert found is not None
            assert best is not None
            assert found.seconds == best.seconds
