"""Costs against direct formulas, written as loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hecompile.errors import CompileError
from hecompile.ir.linear import Array
from hecompile.sparsity.distortion_names import distortion_names
from hecompile.sparsity.importance import distortion_function, jacobian

RNG = np.random.default_rng(5)
X = RNG.standard_normal((2, 9, 8))


def reflect(place: int, size: int) -> int:
    """The place inside [0, size) that a mirror without repeated border shows."""
    period = 2 * (size - 1)
    place = abs(place) % period
    return period - place if place >= size else place


def window(x: Array, row: int, column: int, size: int) -> Array:
    """The size x size neighbourhood in one channel."""
    reach = range(-(size // 2), size // 2 + 1)
    return np.array([[x[reflect(row + i, x.shape[0]), reflect(column + j, x.shape[1])] for j in reach] for i in reach])


def over_windows(x: Array, size: int, value: object) -> Array:
    """`value` of every window of every channel."""
    return np.array([[[value(window(c, i, j, size)) for j in range(x.shape[2])] for i in range(x.shape[1])] for c in x])  # type: ignore[operator]


def direct_rho(residual_of: Array) -> Array:
    kernel = np.array([[-1, 2, -1], [2, -4, 2], [-1, 2, -1]])
    residual = over_windows(residual_of, 3, lambda w: (w * kernel).sum())
    texture = over_windows(np.abs(residual), 3, np.mean)
    return over_windows(1 / texture, 15, np.mean)


def test_hill_is_its_formula() -> None:
    assert np.allclose(distortion_function("hill")(X), np.abs(X) * direct_rho(X), rtol=1e-9)


def test_hill_summed_shares_rho_between_channels() -> None:
    want = np.abs(X) * direct_rho(X.sum(axis=0, keepdims=True))
    assert np.allclose(distortion_function("hill-summed")(X), want, rtol=1e-9)


def test_magnitude_is_the_absolute_value() -> None:
    assert np.array_equal(distortion_function("magnitude")(X), np.abs(X))


def test_variance_is_its_formula() -> None:
    rho = over_windows(1 / over_windows(X, 3, np.var), 15, np.mean)
    assert np.allclose(distortion_function("variance")(X), np.abs(X) * rho, rtol=1e-9)


def test_the_jacobian_of_a_linear_map_is_the_norm_of_its_columns() -> None:
    matrix = torch.from_numpy(RNG.standard_normal((5, X.size)))
    cost = jacobian(lambda x: x.double().flatten(1) @ matrix.T, probes=300)
    norms = matrix.norm(dim=0).numpy().reshape(X.shape)
    error = (cost(X) / np.abs(X) / norms) ** 2 - 1
    assert np.abs(error).max() < 6 * math.sqrt(2 / 300)


def test_the_jacobian_is_taken_where_the_sample_is() -> None:
    cost = distortion_function("jacobian", model=lambda x: x**3)  # one entry per row: a single probe is exact
    assert np.allclose(cost(X), np.abs(X) * 3 * X**2, rtol=1e-5)


def test_every_cost_takes_flat_and_extreme_samples() -> None:
    for name in distortion_names():
        cost = distortion_function(name, model=lambda x: 2 * x)
        assert not cost(np.zeros((1, 4, 4))).any()
        for x in (np.ones((1, 4, 4)), np.full((3, 8, 8), -1e30), X * 1e30, X * 1e-30):
            costs = cost(x)
            assert np.isfinite(costs).all(), name
            assert (costs >= 0).all(), name


def test_a_cost_of_ones_own() -> None:
    assert np.array_equal(distortion_function(lambda x: x**2)(X), X**2)


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ("hilll", "known: .*hill-summed"),
        ("jacobian", "needs a model"),
    ],
)
def test_wrong_choices_are_named(choice: str, reason: str) -> None:
    with pytest.raises(CompileError, match=reason):
        distortion_function(choice)


def test_wrong_results_are_named() -> None:
    for wrong, reason in ((lambda x: x, "negative"), (lambda x: x[0], "shape"), (lambda x: x / 0.0 + np.inf, "not finite")):
        with pytest.raises(CompileError, match=reason), np.errstate(divide="ignore", invalid="ignore"):
            distortion_function(wrong)(X)
    with pytest.raises(CompileError, match="one sample"):
        distortion_function("magnitude")(X[None])
