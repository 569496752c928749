"""Polynomials that treat the whole range alike: what the library's fit, which is weighted by the data, is measured against."""

from __future__ import annotations

import numpy as np
from numpy.polynomial import chebyshev

from hecompile.approx.fits import Density, Fit, Floats, Function, weighted

__all__ = ["FITS", "interpolation", "minimax"]


def interpolation(function: Function, density: Density, degree: int) -> Floats:
    """The coefficients, (degree + 1), of the polynomial through the function at the Chebyshev points of the first kind."""
    middle, half = (density.low + density.high) / 2, (density.high - density.low) / 2
    coefficients: Floats = chebyshev.chebinterpolate(lambda u: function(middle + half * u), degree)
    return coefficients


def minimax(function: Function, density: Density, degree: int) -> Floats:
    """The coefficients, (degree + 1), with the least largest error on a grid of the range: the linear program min e with
    -e <= p(x) - f(x) <= e."""
    from scipy.optimize import linprog

    x = density.grid(8 * (degree + 1))
    basis, target = chebyshev.chebvander(density.mapped(x), degree), function(x)
    slack = -np.ones((len(x), 1))
    rows = np.block([[basis, slack], [-basis, slack]])
    cost = np.r_[np.zeros(degree + 1), 1]
    solution = linprog(cost, rows, np.r_[target, -target], bounds=[(None, None)] * (degree + 1) + [(0, None)], method="highs")
    coefficients: Floats = solution.x[:-1]
    return coefficients


FITS: dict[str, Fit] = {"weighted": weighted, "interpolation": interpolation, "minimax": minimax}
