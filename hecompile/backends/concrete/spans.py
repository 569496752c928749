"""Where a convolution's taps meet the picture: the border's results are shorter sums, not sums with zeros.

A product with an encrypted zero costs as much as any other, and on small pictures a third of the taps lie outside. So each axis is
cut into spans of results whose taps inside the picture are the same ones; a span of rows and a span of columns make one convolution
without padding.
"""

from __future__ import annotations

from dataclasses import dataclass

from hecompile.ir.linear import Geometry

__all__ = ["Span", "bounds_of", "products_of", "spans_of"]


@dataclass(frozen=True)
class Span:
    """Results from `start` to `stop` along one axis: what they read of the picture, and by which of the kernel's taps.

    Results that read nothing have a window of one entry and no taps.
    """

    start: int
    stop: int
    window: slice
    taps: slice

    @property
    def products(self) -> int:
        """Taps of all its results."""
        return (self.stop - self.start) * int(self.taps.stop - self.taps.start)


def bounds_of(geometry: Geometry, axis: int) -> tuple[int, int]:
    """The lowest tap of an axis, and how many there are up to the highest."""
    places = [tap[axis] for tap in geometry.taps]
    return min(places), max(places) - min(places) + 1


def spans_of(geometry: Geometry, axis: int) -> list[Span]:
    """The spans of one axis, in order."""
    size, grid = geometry.picture[1 + axis], geometry.grid[axis]
    low, count = bounds_of(geometry, axis)
    spans = list[Span]()
    for place in range(grid):
        first, last = max(0, place + low), min(size, place + low + count)
        if first >= last:
            spans.append(Span(place, place + 1, slice(0, 1), slice(0, 0)))
            continue
        taps = slice(first - place - low, last - place - low)
        if spans and spans[-1].taps == taps:
            start = spans.pop().start
            first = start + low + taps.start
        else:
            start = place
        spans.append(Span(start, place + 1, slice(first, last), taps))
    return spans


def products_of(geometry: Geometry) -> int:
    """Products of one channel's entries with one row's weights."""
    rows, columns = (sum(span.products for span in spans_of(geometry, axis)) for axis in (0, 1))
    return rows * columns
