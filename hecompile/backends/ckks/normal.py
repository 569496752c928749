"""Polynomials in the variable that CKKS evaluates them in: the scaling goes into the layer before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.polynomial import Chebyshev
from numpy.polynomial import Polynomial as Powers

from hecompile.backends.ckks.affine import Affine, Polynomial
from hecompile.backends.ckks.layout import Grid
from hecompile.backends.ckks.polynomial import plain, powers_row, quadratic_row, quartic_row

__all__ = ["Normal", "normal"]

Floats = npt.NDArray[np.float64]
LEAST_LEADING = 5e-3  # of the polynomial's size, at the end of the range: where the leading term is less it is made so


@dataclass(frozen=True, eq=False)
class Normal:
    """variable = factor x + offset per timestep bin; rows of the polynomial's table; bounds of argument and result."""

    factor: Floats
    offset: Floats
    rows: Floats
    range: float
    result_range: float

    def scale(self, affine: Affine) -> Floats:
        """The map's scale with the factor taken in, (bins or 1, entries)."""
        return _single(affine.scale * self.factor[:, None])

    def shift(self, affine: Affine) -> Floats:
        return _single(affine.shift * self.factor[:, None] + self.offset[:, None])


def _single(rows: Floats) -> Floats:
    return rows[:1] if (rows == rows[0]).all() else rows


def normal(polynomial: Polynomial, grid: Grid) -> Normal:
    """The normal form of a polynomial for all its timestep bins."""
    degree = polynomial.coefficients.shape[1] - 1
    monic = {2: quadratic_row, 4: quartic_row}.get(degree)
    factors, offsets, rows, ranges, results = [], [], [], [], []
    for low, high, coefficients in zip(polynomial.low, polynomial.high, polynomial.coefficients, strict=True):
        series = Chebyshev(coefficients, domain=[low, high])
        x = np.linspace(low, high, 201)
        results.append(float(np.abs(series(x)).max()))
        if monic is not None:
            powers = np.zeros(degree + 1)
            found = series.convert(kind=Powers, domain=[-1, 1], window=[-1, 1]).coef
            powers[: len(found)] = found
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
    return Normal(np.array(factors), np.array(offsets), np.stack(rows), max(ranges), max(results))
