"""Fits: each is the best at what it is for, and the numbers of the literature."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.polynomial import chebyshev

from hecompile.approx.fits import FITS, Density, depth, fit, mean_square_error
from hecompile.errors import CompileError


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def density(low: float = -6.0, high: float = 6.0) -> Density:
    """Bell-shaped data in the middle of the range, as activations have it."""
    edges = np.linspace(low, high, 65)
    middle = (edges[1:] + edges[:-1]) / 2
    return Density(low, high, edges, np.exp(-(middle**2)))


def largest_error(coefficients: np.ndarray, over: Density) -> float:
    x = np.linspace(over.low, over.high, 2001)
    return float(np.abs(chebyshev.chebval(over.mapped(x), coefficients) - silu(x)).max())


def test_depth_is_that_of_paterson_and_stockmeyer() -> None:
    assert [depth(degree) for degree in range(1, 64)] == [math.ceil(math.log2(degree + 1)) for degree in range(1, 64)]


@pytest.mark.parametrize(("width", "degree", "error"), [(6, 8, 2.2e-2), (6, 15, 1.3e-3), (8, 15, 8.7e-3), (12, 31, 1.0e-3)])
def test_interpolation_has_the_errors_of_the_reference(width: float, degree: int, error: float) -> None:
    over = density(-width, width)
    assert largest_error(fit("interpolation", silu, over, degree), over) == pytest.approx(error, rel=0.05)


@pytest.mark.parametrize("degree", [3, 7, 9])
def test_each_fit_is_the_best_by_its_own_measure(degree: int) -> None:
    over = density()
    fitted = {kind: fit(kind, silu, over, degree) for kind in FITS}
    assert min(FITS, key=lambda kind: mean_square_error(silu, over, fitted[kind])) == "weighted"
    assert min(FITS, key=lambda kind: largest_error(fitted[kind], over)) == "minimax"


def test_the_data_weighted_fit_is_bounded_where_no_data_was() -> None:
    over = density(-6, 12)
    over = Density(over.low, over.high, over.edges, np.where(over.edges[1:] < 0, over.counts, 0))
    assert largest_error(fit("weighted", silu, over, 9), over) < 1


def test_a_wrong_fit_lists_the_right_ones() -> None:
    with pytest.raises(CompileError, match="known: interpolation, minimax, weighted"):
        fit("cubic", silu, density(), 3)
