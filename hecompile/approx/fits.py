"""Polynomials for a function on a range, in the Chebyshev basis on [low, high] mapped to [-1, 1].

`weighted` makes the mean squared error over the data least: it spends its accuracy where values are. A fit that treats the whole
range alike loses 17 to 24 dB at the same degree (`docs/approximation.md`, by `benchmarks/activations.py`).
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
UNIFORM = 1e-5  # share of the weight that is spread over the whole range, so that the fit is bounded where no data was
POINTS = 4  # of a cell of the histogram
GRID = 256  # points that stand for the whole range


@dataclass(frozen=True, eq=False)
class Density:
    """Where the data is, on the range that a polynomial has to serve."""

    low: float
    high: float
    edges: Floats  # of the histogram's cells
    counts: Floats  # one fewer

    def mapped(self, x: Floats) -> Floats:
        """[low, high] -> [-1, 1]."""
        return (2 * x - self.low - self.high) / (self.high - self.low)

    def points(self) -> tuple[Floats, Floats]:
        """Points inside the cells and their weights, which add up to one. Cells outside the range count at its ends."""
        steps = (np.arange(POINTS) + 0.5) / POINTS
        x = (self.edges[:-1, None] + np.diff(self.edges)[:, None] * steps).ravel()
        filled = np.repeat(self.counts, POINTS) > 0
        weights = np.repeat(self.counts / POINTS, POINTS)[filled]
        return np.clip(x[filled], self.low, self.high), weights / weights.sum()

    def grid(self, count: int) -> Floats:
        """Points of the whole range, denser at its ends."""
        u: Floats = np.cos(np.pi * (np.arange(count) + 0.5) / count)
        return self.low + (u + 1) / 2 * (self.high - self.low)


Fit = Callable[[Function, Density, int], Floats]  # the coefficients for a function, where its data is, and a degree


def depth(degree: int) -> int:
    """Multiplications in sequence, as Paterson and Stockmeyer's evaluation needs them: ceil(log2(degree + 1))."""
    return degree.bit_length()


def weighted(function: Function, density: Density, degree: int) -> Floats:
    """The coefficients, (degree + 1), of least squares weighted by the data and a little everywhere."""
    x, weights = density.points()
    x = np.concatenate([x, density.grid(GRID)])
    weights = np.concatenate([weights * (1 - UNIFORM), np.full(GRID, UNIFORM / GRID)])
    coefficients: Floats = chebyshev.chebfit(density.mapped(x), function(x), degree, w=np.sqrt(weights))
    return coefficients


def mean_square_error(function: Function, density: Density, coefficients: Floats) -> float:
    """Over the data."""
    x, weights = density.points()
    errors = chebyshev.chebval(density.mapped(x), coefficients) - function(x)
    return float(weights @ errors**2)
