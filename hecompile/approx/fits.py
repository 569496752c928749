"""Polynomials for a function on a range, in the Chebyshev basis on [low, high] mapped to [-1, 1].

`weighted` minimises the mean squared error over the data, so a polynomial is most accurate where values are frequent. A fit that
treats the whole range alike loses 17 to 24 dB at the same degree (`docs/approximation.md`, by `benchmarks/activations.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.polynomial import chebyshev

__all__ = ["Density", "Fit", "Floats", "Function", "depth", "mean_square_error", "weighted"]

Floats = npt.NDArray[np.float64]
Function = Callable[[Floats], Floats]
UNIFORM = 1e-5  # share of the weight that is spread over the whole range, so that the fit is bounded where no data lies
POINTS = 4  # in every cell of the histogram
GRID = 256  # points that stand for the whole range


@dataclass(frozen=True, eq=False)
class Density:
    """The distribution of the data as a histogram, and the range [low, high] on which a polynomial must be valid."""

    low: float
    high: float
    edges: Floats  # of the histogram's cells
    counts: Floats  # of values in each cell; one fewer than edges

    def mapped(self, x: Floats) -> Floats:
        """Map points of [low, high] to [-1, 1]."""
        return (2 * x - self.low - self.high) / (self.high - self.low)

    def points(self) -> tuple[Floats, Floats]:
        """Points inside the histogram's cells and their weights, which add up to one.

        Points outside the range are moved to its ends.
        """
        steps = (np.arange(POINTS) + 0.5) / POINTS
        x = (self.edges[:-1, None] + np.diff(self.edges)[:, None] * steps).ravel()
        filled = np.repeat(self.counts, POINTS) > 0
        weights = np.repeat(self.counts / POINTS, POINTS)[filled]
        return np.clip(x[filled], self.low, self.high), weights / weights.sum()

    def grid(self, count: int) -> Floats:
        """`count` points of the whole range, denser at its ends."""
        u: Floats = np.cos(np.pi * (np.arange(count) + 0.5) / count)
        return self.low + (u + 1) / 2 * (self.high - self.low)


Fit = Callable[[Function, Density, int], Floats]  # (function, density, degree) -> coefficients


def depth(degree: int) -> int:
    """How many multiplications in sequence Paterson and Stockmeyer's evaluation takes: ceil(log2(degree + 1))."""
    return degree.bit_length()


def weighted(function: Function, density: Density, degree: int) -> Floats:
    """Fit by least squares, weighted by the data and a little over the whole range. Returns the coefficients (degree + 1)."""
    x, weights = density.points()
    x = np.concatenate([x, density.grid(GRID)])
    weights = np.concatenate([weights * (1 - UNIFORM), np.full(GRID, UNIFORM / GRID)])
    coefficients: Floats = chebyshev.chebfit(density.mapped(x), function(x), degree, w=np.sqrt(weights))
    return coefficients


def mean_square_error(function: Function, density: Density, coefficients: Floats) -> float:
    """The mean squared error of a polynomial over the data."""
    x, weights = density.points()
    errors = chebyshev.chebval(density.mapped(x), coefficients) - function(x)
    return float(weights @ errors**2)
