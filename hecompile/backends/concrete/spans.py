"""Cuts a padded convolution into convolutions without padding, so that no time is spent on products with padding zeros.

A product with a zero costs as much as any other, and on small pictures a third of a kernel's taps lie outside the picture. So each
axis is cut into spans of results that have the same taps inside the picture. A span of rows and a span of columns make one
convolution without padding.
"""

from __future__ import annotations

from dataclasses import dataclass

from hecompile.ir.linear import Geometry

__all__ = ["Span", "bounds_of", "products_of", "spans_of"]


@dataclass(frozen=True)
class Span:
    """Results from `start` to `stop` along one axis, with the part of the picture and the taps of the kernel that they read.

    Results without taps inside the picture have a window of one entry and no taps.
    """

    start: int
    stop: int
    window: slice
    taps: slice

    @property
    def products(self) -> int:
        """How many taps its results have together."""
        return (self.stop - self.start) * int(self.taps.stop - self.taps.start)


def bounds_of(geometry: Geometry, axis: int) -> tuple[int, int]:
    """The lowest offset of a tap along an axis, and the extent of the kernel from there."""
    places = [tap[axis] for tap in geometry.taps]
    return min(places), max(places) - min(places) + 1


def spans_of(geometry: Geometry, axis: int) -> list[Span]:
    """The spans of one axis, in order. Together they hold every result once."""
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
    """How many products one input channel and one row of weights take."""
    rows, columns = (sum(span.products for span in spans_of(geometry, axis)) for axis in (0, 1))
    return rows * columns
