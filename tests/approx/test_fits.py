"""The fit: nearest to the data, and bounded where there is none."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.polynomial import chebyshev

from hecompile.approx.fits import Density, depth, mean_square_error, weighted
from hecompile.ir.linear import Array


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def density(low: float = -6.0, high: float = 6.0) -> Density:
    """Bell-shaped data in the middle of the range, as activations have it."""
    edges = np.linspace(low, high, 65)
    middle = (edges[1:] + edges[:-1]) / 2
    return Density(low, high, edges, np.exp(-(middle**2)))


def largest_error(coefficients: Array, over: Density) -> float:
    x = np.linspace(over.low, over.high, 2001)
    return float(np.abs(chebyshev.chebval(over.mapped(x), coefficients) - silu(x)).max())


def test_depth_is_that_of_paterson_and_stockmeyer() -> None:
    assert [depth(degree) for degree in range(1, 64)] == [math.ceil(math.log2(degree + 1)) for degree in range(1, 64)]


def test_no_polynomial_is_nearer_to_the_data() -> None:
    """The least mean squared error, but for the little weight everywhere: no change of a coefficient makes it less."""
    over = density()
    coefficients = weighted(silu, over, 7)
    least = mean_square_error(silu, over, coefficients)
    for place, change in itertools.product(range(8), (-1e-3, 1e-3)):
        assert mean_square_error(silu, over, coefficients + change * np.eye(8)[place]) > least


def test_the_data_weighted_fit_is_bounded_where_no_data_was() -> None:
    over = density(-6, 12)
    over = Density(over.low, over.high, over.edges, np.where(over.edges[1:] < 0, over.counts, 0))
    assert largest_error(weighted(silu, over, 9), over) < 1
