"""Scales the variable of a polynomial so that CKKS evaluates it with few levels. The layer before takes in the scaling.

A quadratic or quartic gets a leading coefficient of 1 or -1 (forms 1 and 2 of `polynomial.py`). Any other polynomial gets a
variable in [-1, 1] (form 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.polynomial import Chebyshev
from numpy.polynomial import Polynomial as Powers

from hecompile.backends.ckks.linear_maps import AffineMap, Polynomial
from hecompile.backends.ckks.polynomial import plain, powers_row, quadratic_row, quartic_row

__all__ = ["ScaledPolynomial", "scaled_polynomial"]

Floats = npt.NDArray[np.float64]
LEAST_LEADING = 5e-3  # of the polynomial's size at the end of its range: a smaller leading term is raised to this


@dataclass(frozen=True, eq=False)
class ScaledPolynomial:
    """A polynomial in the variable factor x + offset, where x is the polynomial's argument.

    `factor` and `offset` have one entry per timestep bin, and `rows` are the polynomial's table, one row per bin. The variable
    stays in [-range, range] and the result in [-result_range, result_range] while x is in the polynomial's range.
    """

    factor: Floats
    offset: Floats
    rows: Floats
    range: float
    result_range: float

    def scale(self, affine: AffineMap) -> Floats:
        """The scale of the map to x, times the factor: (bins or 1, entries)."""
        return _single(affine.scale * self.factor[:, None])

    def shift(self, affine: AffineMap) -> Floats:
        """The shift of the map to x, in the scaled variable: (bins or 1, entries)."""
        return _single(affine.shift * self.factor[:, None] + self.offset[:, None])


def _single(rows: Floats) -> Floats:
    """The first row alone if all rows are equal, else all rows."""
    return rows[:1] if (rows == rows[0]).all() else rows


def scaled_polynomial(polynomial: Polynomial) -> ScaledPolynomial:
    """Scale the variable of a polynomial, for each of its timestep bins."""
    degree = polynomial.coefficients.shape[1] - 1
    monic = {2: quadratic_row, 4: quartic_row}.get(degree)
    factors, offsets, rows, ranges, results = [], [], [], [], []
    for low, high, coefficients in zip(polynomial.low, polynomial.high, polynomial.coefficients, strict=True):
        series = Chebyshev(coefficients, domain=[low, high])
        x = np.linspace(low, high, 201)
        results.append(float(np.abs(series(x)).max()))
        if monic is not None:
            powers = np.zeros(degree + 1)
            converted = series.convert(kind=Powers, domain=[-1, 1], window=[-1, 1]).coef
            powers[: len(converted)] = converted
            reach = max(abs(low), abs(high))
            least = LEAST_LEADING * max(results[-1], 1e-6) / reach**degree
            if abs(powers[degree]) < least:
                powers[degree] = least if powers[degree] >= 0 else -least
            row, factor = monic(powers)
            factors.append(factor)
            offsets.append(0.0)
            ranges.append(factor * reach)
        else:
            row = powers_row(np.polynomial.chebyshev.cheb2poly(coefficients))
            factors.append(2 / (high - low))
            offsets.append(-(high + low) / (high - low))
            ranges.append(1.0)
        rows.append(row)
        results[-1] = max(results[-1], float(np.abs(plain(row, x * factors[-1] + offsets[-1])).max()))
    return ScaledPolynomial(np.array(factors), np.array(offsets), np.stack(rows), max(ranges), max(results))
