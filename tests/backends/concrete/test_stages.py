"""The limits that a linear circuit's width is proved from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hecompile.backends.concrete.limits import LIMIT
from hecompile.backends.concrete.linear.stages import LimitedLinearOp
from hecompile.backends.concrete.windows import largest_result, limits_for, quantise_windows
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.linear import Array, Geometry, Part, conv2d, correlate, linear
from hecompile.ir.linear_ops import FloatLinearOp
from hecompile.ir.quantization import quantize

PICTURES = ["normal", "constant", "signs of a row", "one entry", "zero", "huge", "nan", "inf"]


def geometry_and_weights(kind: str, seed: int) -> tuple[Geometry, Array]:
    rng = np.random.default_rng(seed)
    if kind == "linear":
        geometry, weights = linear(rng.standard_normal((5, 12)), 3)
    else:
        stride = (2, 2) if kind == "strided" else (1, 1)
        geometry, weights = conv2d(rng.standard_normal((4, 3, 3, 3)), (6, 6), stride, (1, 1), (1, 1), 1)
    return geometry, np.clip(np.rint(weights * 60), -127, 127).astype(np.int8)


def picture(kind: str, geometry: Geometry, weights: Array, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    shape = (2, *geometry.picture)
    if kind == "normal":
        return rng.standard_normal(shape).astype(np.float32)
    if kind == "signs of a row":
        row = np.abs(weights.astype(int)).sum(axis=(1, 2)).argmax()
        return np.broadcast_to(np.sign(weights[row].sum(axis=1)).reshape(-1, 1, 1), shape).astype(np.float32)
    if kind == "one entry":
        values = np.zeros(shape, np.float32)
        values[:, 0, 0, 0] = 3.0
        return values
    fill = {"constant": 1.0, "zero": 0.0, "huge": 3e38, "nan": np.nan, "inf": np.inf}[kind]
    return np.full(shape, fill, np.float32)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["conv", "strided", "linear"]), st.sampled_from(PICTURES), st.integers(0, 1000))
def test_no_result_leaves_its_bound(layer: str, kind: str, seed: int) -> None:
    geometry, weights = geometry_and_weights(layer, seed)
    limits = limits_for(geometry, weights)
    with np.errstate(over="ignore"):
        integers, scales = quantise_windows(picture(kind, geometry, weights, seed), geometry, limits)
    assert np.abs(integers).max() <= limits.entry
    assert (scales > 0).all()
    squares = correlate(
        np.square(integers).sum(axis=1, keepdims=True), np.ones((1, 1, len(geometry.taps)), int), geometry.taps, geometry.grid
    )
    assert np.sqrt(squares.max()) <= limits.window
    results = correlate(integers, weights.astype(np.int64), geometry.taps, geometry.grid)
    assert np.abs(results).max() <= largest_result(geometry, weights, limits)


@pytest.mark.parametrize("size", range(1, 128, 9))
def test_results_fill_a_whole_width_and_values_keep_their_bits(size: int) -> None:
    geometry, _ = geometry_and_weights("conv", 0)
    weights = np.full((4, 3, 9), size, np.int8)
    limits = limits_for(geometry, weights)
    filled = largest_result(geometry, weights, limits) / 2 ** round(np.log2(largest_result(geometry, weights, limits)))
    assert 0.95 < filled < 1
    assert LIMIT / 1.45 < limits.entry < LIMIT * 1.45


def test_the_bound_saves_bits() -> None:
    rng = np.random.default_rng(0)
    geometry, weights = conv2d(rng.standard_normal((16, 16, 3, 3)), (8, 8), (1, 1), (1, 1), (1, 1), 1)
    small = np.clip(np.rint(weights * 40), -127, 127).astype(np.int8)
    worst = int(np.abs(small.astype(int)).sum(axis=(1, 2)).max()) * LIMIT
    assert largest_result(geometry, small, limits_for(geometry, small)) < worst / 2


@pytest.mark.parametrize("kind", ["normal", "constant"])
def test_the_reference_is_within_its_rounding(kind: str) -> None:
    rng = np.random.default_rng(0)
    geometry, weights = conv2d(rng.standard_normal((4, 3, 3, 3)), (6, 6), (1, 1), (1, 1), (1, 1), 1)
    linear_op = quantize(FloatLinearOp("x", geometry, (Part("y", 4),), weights.copy, np.zeros(4, np.float32), ChannelSplit(3)))
    limited = LimitedLinearOp(linear_op, 1)
    value = picture(kind, geometry, weights, 0)
    for got, want, bound in zip(limited.reference(value), linear_op.reference(value), limited.rounding(value), strict=True):
        assert (np.abs(got - want) <= bound + 1e-5).all()
