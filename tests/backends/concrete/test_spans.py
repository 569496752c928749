"""A convolution cut into pieces without padding is the same convolution."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hecompile.backends.concrete.spans import bounds_of, products_of, spans_of
from hecompile.ir.linear import Array, Geometry, conv2d, correlate

layers = st.tuples(
    st.integers(1, 5), st.integers(1, 7), st.integers(1, 7), st.integers(1, 2), st.integers(0, 3), st.integers(1, 2)
).filter(lambda layer: min(layer[1:3]) + 2 * layer[4] > layer[5] * (layer[0] - 1))


def built(layer: tuple[int, int, int, int, int, int]) -> tuple[Geometry, Array]:
    kernel, height, width, stride, padding, dilation = layer
    weights = np.random.default_rng(0).integers(-9, 10, (2, 2, kernel, kernel))
    return conv2d(weights, (height, width), (stride, stride), (padding, padding), (dilation, dilation), 1)


@settings(max_examples=60, deadline=None)
@given(layers)
def test_pieces_make_the_whole(layer: tuple[int, int, int, int, int, int]) -> None:
    geometry, weights = built(layer)
    picture = np.random.default_rng(1).integers(-9, 10, (1, *geometry.picture))
    whole = correlate(picture, weights, geometry.taps, geometry.grid)
    assembled, products = np.full_like(whole, 10**6), 0
    (top, _), (left, _) = (bounds_of(geometry, axis) for axis in (0, 1))
    numbers = {tap: number for number, tap in enumerate(geometry.taps)}
    for row in spans_of(geometry, 0):
        for column in spans_of(geometry, 1):
            window = picture[:, :, row.window, column.window]
            size = (row.stop - row.start, column.stop - column.start)
            result = np.zeros((1, len(weights), *size), picture.dtype)
            for y in range(row.taps.stop - row.taps.start):
                for x in range(column.taps.stop - column.taps.start):
                    tap = numbers.get((top + row.taps.start + y, left + column.taps.start + x))
                    if tap is not None:
                        part = window[:, :, y : y + size[0], x : x + size[1]]
                        assert part.shape[2:] == size  # without padding
                        result += np.einsum("oc,bchw->bohw", weights[:, :, tap], part).astype(picture.dtype)
            assembled[:, :, row.start : row.stop, column.start : column.stop] = result
            products += row.products * column.products
    np.testing.assert_array_equal(assembled, whole)
    assert products == products_of(geometry)


def test_the_border_of_a_small_picture_saves_a_third() -> None:
    geometry, _ = built((3, 4, 4, 1, 1, 1))
    assert products_of(geometry) == 100  # of 144
