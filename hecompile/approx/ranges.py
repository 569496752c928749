"""The range that a polynomial has to serve: what was seen, and what more of the same data will bring.

The largest of n values grows with n for as long as data comes in, so a range that just holds what was seen is left by the next
pictures. The largest value of a picture is the largest of many, whose distribution is Gumbel's for tails like those of a normal
distribution or lighter than exponential: F(x) = exp(-exp(-(x - m) / b)), with mean m + 0.5772 b and standard deviation
b pi / sqrt(6). By these moments the value that one picture in N exceeds is m + b ln N. (Gumbel, Statistics of Extremes, 1958.)
"""

from __future__ import annotations

import numpy as np

from hecompile.approx.fits import Floats
from hecompile.calibration import NodeStatistics

__all__ = ["ranges"]

MARGIN = 0.1  # of the width of what was seen, half of it at each end
POSITIVE_MARGIN = 1.5  # a factor at each end where values are variances and the like: their tails are long
NEAR = 2  # bins on either side whose extremes count too: statistics change slowly with t, and extremes are few
RARE = 1e4  # one entry of a batch in so many leaves the range at a call


def _exceeded(largest: Floats) -> float:
    """What one in `RARE` of such values exceeds."""
    scale = float(largest.std()) * 6**0.5 / np.pi
    return float(largest.mean()) - np.euler_gamma * scale + scale * float(np.log(RARE))


def _ends(extremes: Floats, margin: float) -> tuple[float, float]:
    """The range of data with these extremes (entries, 2); a constant gets a width."""
    least, largest = extremes.T
    low, high = float(least.min()), float(largest.max())
    width = max(high - low, 1e-3 * abs(high), 1e-6)
    return min(low - margin * width, -_exceeded(-least)), max(high + margin * width, _exceeded(largest))


def ranges(found: NodeStatistics, places: list[int], positive: bool) -> list[tuple[float, float]]:
    """The range of each of these bins.

    Args:
        positive: a range of positive numbers stays one; it is found for their logarithms.
    """
    rows = [np.concatenate(found.extremes[max(place - NEAR, 0) : place + NEAR + 1]) for place in places]
    if not positive:
        return [_ends(each, MARGIN / 2) for each in rows]
    ends = [_ends(np.log(each), 0.0) for each in rows]
    seen = [(float(each.min()) / POSITIVE_MARGIN, float(each.max()) * POSITIVE_MARGIN) for each in rows]
    return [
        (min(float(np.exp(low)), least), max(float(np.exp(high)), most))
        for (low, high), (least, most) in zip(ends, seen, strict=True)
    ]
