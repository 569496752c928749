"""Finds the range on which a polynomial must be valid: the values seen in calibration, and those to expect of more such data.

The largest of n values grows with n, so new pictures soon leave a range that just holds the values seen so far. The largest value
of a picture is the largest of many. For tails like a normal distribution's, or lighter than exponential, its distribution is
Gumbel's: F(x) = exp(-exp(-(x - m) / b)), with mean m + 0.5772 b and standard deviation b pi / sqrt(6). From mean and standard
deviation follow m and b, and one picture in N exceeds the value m + b ln N (Gumbel, Statistics of Extremes, 1958).
"""

from __future__ import annotations

import numpy as np

from hecompile.approx.fits import Floats
from hecompile.calibration import NodeStatistics

__all__ = ["ranges"]

MARGIN = 0.1  # added to the width of the values that were seen, half of it at each end
POSITIVE_MARGIN = 1.5  # factor at each end for positive values such as variances, which have long tails
NEAR = 2  # bins on either side whose extremes count too, as there are few in a bin and they change slowly with t
RARE = 1e4  # in a call, one entry of a batch in this many may leave the range


def _exceeded(largest: Floats) -> float:
    """The value that one in `RARE` of such largest values exceeds."""
    scale = float(largest.std()) * 6**0.5 / np.pi
    return float(largest.mean()) - np.euler_gamma * scale + scale * float(np.log(RARE))


def _ends(extremes: Floats, margin: float) -> tuple[float, float]:
    """The range of data with these least and largest values (entries, 2). The range of a constant is given some width."""
    least, largest = extremes.T
    low, high = float(least.min()), float(largest.max())
    width = max(high - low, 1e-3 * abs(high), 1e-6)
    return min(low - margin * width, -_exceeded(-least)), max(high + margin * width, _exceeded(largest))


def ranges(statistics: NodeStatistics, places: list[int], positive: bool) -> list[tuple[float, float]]:
    """The range (low, high) of each timestep bin of `places`.

    Args:
        positive: all values are positive, and so is the range. It is found from their logarithms.
    """
    rows = [np.concatenate(statistics.extremes[max(place - NEAR, 0) : place + NEAR + 1]) for place in places]
    if not positive:
        return [_ends(extremes, MARGIN / 2) for extremes in rows]
    ends = [_ends(np.log(extremes), 0.0) for extremes in rows]
    seen = [(float(extremes.min()) / POSITIVE_MARGIN, float(extremes.max()) * POSITIVE_MARGIN) for extremes in rows]
    return [
        (min(float(np.exp(low)), least), max(float(np.exp(high)), most))
        for (low, high), (least, most) in zip(ends, seen, strict=True)
    ]
