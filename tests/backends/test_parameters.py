"""Choosing parameters: what is chosen is proved, nothing better is left out, and steps are traded for a smaller q."""

from __future__ import annotations

import math
from collections.abc import Iterator
from time import perf_counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hecompile.backends.bfv import choose as search
from hecompile.backends.bfv.choose import Choice, Weights, choose
from hecompile.backends.bfv.costs import layer_cost
from hecompile.backends.bfv.packing import layouts
from hecompile.backends.bfv.parameters import LIMITS, T_BITS, Parameters, ProofKind, noise_bound, noise_budget
from hecompile.backends.bfv.provable import Carrier, best_drops, carriers, carriers_of
from hecompile.backends.bfv.rings import Q_BITS, ROOM_BITS, prime
from hecompile.ir.layer_groups import layer_groups
from hecompile.ir.linear import Array, Geometry, conv2d, linear
from hecompile.machine import Machine, seconds_of
from hecompile.predict import partitioned

MACHINES = st.builds(Machine, bandwidth_mbps=st.sampled_from([0.1, 10.0, 1e9]), encrypt_ns=st.sampled_from([1.0, 400.0]))
KINDS: tuple[ProofKind, ...] = ("worst-case", "probabilistic")


@st.composite
def layers(draw: st.DrawFn) -> tuple[Geometry, Array]:
    """Small convolutions and linear layers with int8 weights of any size."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    channels, outputs, size = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.sampled_from([1, 4, 8, 20]))
    peak = draw(st.sampled_from([1, 20, 127]))
    if draw(st.booleans()):
        return linear(rng.integers(-peak, peak + 1, (outputs, channels)), size)
    stride = draw(st.sampled_from([1, 2]))
    return conv2d(rng.integers(-peak, peak + 1, (outputs, channels, 3, 3)), (size, size), (stride, stride), (1, 1), (1, 1), 1)


def bell_shaped(outputs: int, channels: int, kernel: int, size: int) -> Weights:
    """A convolution whose int8 weights are as those of trained layers."""
    values = np.clip(np.rint(np.random.default_rng(0).standard_normal((outputs, channels, kernel, kernel)) * 28), -127, 127)
    geometry, rows = conv2d(values, (size, size), (1, 1), (kernel // 2, kernel // 2), (1, 1), 1)
    return Weights(geometry, rows.astype(np.int8))


def without_pruning(weights: Weights, elements: int, machine: Machine) -> Choice | None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search._Priced, "floor", lambda *_: 0.0)
        return choose(weights, elements, machine)


def judge(choice: Choice, weights: Weights) -> None:
    """Both bounds, by the formulas themselves."""
    parameters, norms = choice.parameters, weights.answer_norms(choice.layout)
    q, (first, second) = prime(parameters.q_bits, parameters.t_bits), norms
    assert weights.row_norm * parameters.limit <= 2 ** (parameters.t_bits - 1) - 1
    dropped_b = 2.0 ** (choice.drop_b - 1) if choice.drop_b else 0
    if choice.proof == "worst-case":
        noise = 21 * first + 1 / 2 + dropped_b + (parameters.dimension * 2.0 ** (choice.drop_a - 1) if choice.drop_a else 0)
    else:
        rounding = parameters.dimension * 4.0**choice.drop_a / 6 if choice.drop_a else 0
        noise = 1 / 2 + dropped_b + 10.3 * math.sqrt(10.5 * second**2 + rounding)
    assert noise <= q / 2 ** (parameters.t_bits + 1) - 1
    assert math.log2(noise) == pytest.approx(choice.noise_bits)
    assert math.log2(q / 2 ** (parameters.t_bits + 1) - 1) == pytest.approx(choice.budget_bits)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(layer=layers(), machine=MACHINES, t_bits=st.integers(16, 33), elements=st.sampled_from([1, 5]))
def test_no_choice_is_below_the_bound(layer: tuple[Geometry, Array], machine: Machine, t_bits: int, elements: int) -> None:
    geometry, values = layer
    weights, sizes = Weights(geometry, values.astype(np.int8)), range(max(Q_BITS[0], t_bits + ROOM_BITS), Q_BITS[1] + 1)
    for layout in layouts(geometry, 2048, elements):
        norms, priced = weights.answer_norms(layout), search._Priced(layout, machine)
        for kind in KINDS:
            for q_bits in sizes:
                proof = Carrier(kind, t_bits, 127, (q_bits, q_bits))
                choice = priced.best_q(proof, norms, math.inf)
                assert choice is None or priced.floor(q_bits, t_bits) <= choice.seconds


@settings(max_examples=12, deadline=None)
@given(layer=layers(), machine=MACHINES, elements=st.sampled_from([1, 3]))
def test_small_layers_get_what_they_get_without_pruning(layer: tuple[Geometry, Array], machine: Machine, elements: int) -> None:
    weights = Weights(layer[0], layer[1].astype(np.int8))
    choice, best = choose(weights, elements, machine), without_pruning(weights, elements, machine)
    assert choice is not None
    assert best is not None
    assert choice.seconds == best.seconds
    judge(choice, weights)


@settings(max_examples=12, deadline=None)
@given(layer=layers(), machine=MACHINES)
def test_what_is_chosen_costs_what_its_layer_does(layer: tuple[Geometry, Array], machine: Machine) -> None:
    choice = choose(Weights(layer[0], layer[1].astype(np.int8)), 2, machine)
    assert choice is not None
    cost = layer_cost(choice.layout, choice.parameters.q_bits, (choice.drop_b, choice.drop_a), machine)
    assert choice.seconds == pytest.approx(seconds_of(cost, machine))


@settings(max_examples=12, deadline=None)
@given(layer=layers(), elements=st.integers(2, 9))
def test_parameters_of_one_picture_carry_every_batch(layer: tuple[Geometry, Array], elements: int) -> None:
    weights = Weights(layer[0], layer[1].astype(np.int8))
    one = choose(weights, 1, Machine())
    assert one is not None
    many = choose(weights, elements, Machine(), one.parameters)
    assert many is not None
    assert many.parameters == one.parameters
    judge(many, weights)


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(KINDS), first=st.integers(1, 1 << 22), ones=st.integers(1, 127), t_bits=st.integers(*T_BITS),
    q_bits=st.integers(*Q_BITS), dimension=st.sampled_from([2048, 32768]),
)  # fmt: skip
def test_as_many_bits_are_dropped_as_the_proof_allows(
    kind: ProofKind, first: int, ones: int, t_bits: int, q_bits: int, dimension: int
) -> None:
    if q_bits - t_bits < ROOM_BITS:
        return
    norms, budget = (first, math.sqrt(first * ones)), noise_budget(prime(q_bits, t_bits), t_bits)
    drops = best_drops(kind, norms, dimension, budget, (100, dimension))
    fits = {(b, a) for a in range(q_bits) for b in range(q_bits) if noise_bound(kind, norms, dimension, b, a) <= budget}
    if drops is None:
        assert not fits
    else:
        assert 100 * drops[0] + dimension * drops[1] == max(100 * b + dimension * a for b, a in fits)


def test_the_quantisers_steps_are_traded_for_48_bits_down_to_512() -> None:
    """The norms of bell-shaped weights, of 11,520 and 23,040 terms; all of 127 needs more, or has no parameters."""
    norms = [(terms * 22, 28 * math.sqrt(terms)) for terms in (2880, 11520, 23040)]
    choices = [carriers(norm, norm[0])[0] for norm in norms]
    assert [(choice.limit, choice.q_bits[1]) for choice in choices] == [(2047, 48), (2047, 48), (529, 48)]
    assert all(choice.kind == "probabilistic" for choice in choices)
    full = [(127 * terms, 127 * math.sqrt(terms)) for terms in (2880, 11520, 23040)]
    assert [[(choice.limit, choice.q_bits[1]) for choice in carriers(norm, norm[0])] for norm in full] == [
        [(733, 48)],
        [(366, 50)],
        [],
    ]


def test_no_proof_leaves_the_quantiser_more_steps() -> None:
    for norms, message_norm in (((1000, 900.0), 1000), ((253440, 3005.0), 300000), ((1463040, 13630.0), 1463040)):
        choices = carriers(norms, message_norm)
        assert len({choice.limit for choice in choices}) == 1
        limit, t_bits = choices[0].limit, choices[0].t_bits
        assert LIMITS[0] <= limit == min(LIMITS[1], (2 ** (t_bits - 1) - 1) // message_norm)
        for wider in range(t_bits + 1, T_BITS[1] + 1):
            if limit == LIMITS[1] or (limit >= 512 and choices[0].q_bits[1] == 48):
                bound = noise_bound("probabilistic", norms, 2048, 0, 0)
                assert limit == LIMITS[1] or bound > noise_budget(prime(48, wider), wider)
            else:
                assert not carriers_of(Parameters(2048, 50, wider, 127), norms)


def test_a_probable_proof_is_taken_where_it_saves_a_tenth() -> None:
    weights = bell_shaped(640, 1280, 1, 1)
    choice = choose(weights, 1, Machine())
    assert choice is not None
    assert choice.proof == "probabilistic"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "LESS_TIME", 0.0)
        worst = choose(weights, 1, Machine())
    assert worst is not None
    assert worst.proof == "worst-case"
    assert choice.seconds < 0.9 * worst.seconds


def test_a_batch_becomes_blocks_where_they_are_cheaper() -> None:
    """A wide layer on a small picture: two elements fill a polynomial, and the `a` half is of as many products as channels."""
    weights = bell_shaped(640, 640, 3, 8)
    choice = choose(weights, 4, Machine())
    assert choice is not None
    assert choice.layout.blocks > 1
    assert {layout.blocks for layout in layouts(weights.geometry, 2048, 4)} == {1, 2, 4}


def wide_layers() -> Iterator[Weights]:
    yield bell_shaped(1280, 1280, 3, 8)
    yield bell_shaped(1280, 2560, 3, 16)


def test_wide_layers_are_chosen_in_a_second() -> None:
    for weights in wide_layers():
        started = perf_counter()
        assert choose(weights, 2, Machine()) is not None
        assert perf_counter() - started < 2


@pytest.mark.slow
def test_the_layers_of_digits_get_what_they_get_without_pruning() -> None:
    for group in layer_groups(partitioned("digits"))[::5]:
        weights = Weights(group.geometry, group.weights)
        for machine in (Machine(), Machine(bandwidth_mbps=1.0)):
            choice, best = (
                choose(weights, group.images_per_sample, machine),
                without_pruning(weights, group.images_per_sample, machine),
            )
            assert choice is not None
            assert best is not None
            assert choice.seconds == best.seconds
