"""Polynomials by powers, as quartics and as quadratics: right, and at the depth that they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hecompile.backends.ckks.engine import ClearEngine, Engine
from hecompile.backends.ckks.polynomial import depth_of, evaluate, plain, powers_row, quadratic_row, quartic_row
from hecompile.backends.ckks.program import SlotProgram
from hecompile.backends.ckks.ring import CkksRing
from hecompile.backends.ckks.value import Value
from hecompile.errors import ProtocolError

RING = CkksRing(8192, (40, *(28,) * 5), 34)
X = np.linspace(-1, 1, RING.slots)


@pytest.mark.parametrize("degree", [1, 2, 3, 4, 5, 7, 9, 15])
def test_powers_take_optimal_depth(degree: int) -> None:
    coefficients = np.random.default_rng(degree).standard_normal(degree + 1)
    engine = ClearEngine(SlotProgram(RING, ()), {})
    result = evaluate(engine, Value(5, RING.scale, 2, X), powers_row(coefficients))
    assert result.level == 5 - int(np.ceil(np.log2(degree + 1)))
    assert result.scale == pytest.approx(RING.scale, rel=1e-9)
    np.testing.assert_allclose(result.data, np.polynomial.polynomial.polyval(X, coefficients), atol=1e-12)


@given(st.lists(st.floats(-3, 3), min_size=4, max_size=4), st.floats(0.01, 2), st.booleans())
def test_quartics_take_two_levels(low: list[float], leading: float, negative: bool) -> None:
    coefficients = np.array([*low, -leading if negative else leading])
    row, factor = quartic_row(coefficients)
    engine = ClearEngine(SlotProgram(RING, ()), {})
    result = evaluate(engine, Value(5, RING.scale, 2, X * factor), row)
    assert result.level == 5 - depth_of(4) == 3
    want = np.polynomial.polynomial.polyval(X, coefficients)
    size = 1 + np.abs(row).max() ** 2
    np.testing.assert_allclose(result.data, want, atol=1e-9 * size)
    np.testing.assert_allclose(plain(row, X * factor), want, atol=1e-9 * size)


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0.01, 2), st.booleans())
def test_quadratics_take_one_level(constant: float, linear: float, leading: float, negative: bool) -> None:
    coefficients = np.array([constant, linear, -leading if negative else leading])
    row, factor = quadratic_row(coefficients)
    result = evaluate(ClearEngine(SlotProgram(RING, ()), {}), Value(5, RING.scale, 2, X * factor), row)
    assert result.level == 5 - depth_of(2) == 4
    np.testing.assert_allclose(result.data, np.polynomial.polynomial.polyval(X, coefficients), atol=1e-9)


def test_too_few_levels_are_refused() -> None:
    with pytest.raises(ProtocolError, match="lower"):
        evaluate(Engine(SlotProgram(RING, ()), {}), Value(2, RING.scale, 2, None), powers_row(np.ones(8)))
    with pytest.raises(ProtocolError, match="unknown form"):
        evaluate(Engine(SlotProgram(RING, ()), {}), Value(2, RING.scale, 2, None), np.array([7.0, 1.0]))
