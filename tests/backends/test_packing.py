"""Packings: place, multiply and read give the convolution, for every geometry; never more than the ring holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hecompile.backends.bfv.clear.server import _multiply
from hecompile.backends.bfv.packing import Layout, Packing, layouts, row_norms
from hecompile.errors import ProtocolError
from hecompile.ir import linear as forms
from hecompile.ir.linear import Array, Geometry, correlate


def through_polynomials(layout: Layout, weights: Array, picture: Array) -> Array:
    """Place, multiply in the clear, read."""
    answers = [_multiply(block, weights, layout) for block in layout.pack(picture)]
    return layout.gather(np.stack(answers))


@st.composite
def layers(draw: st.DrawFn) -> tuple[Geometry, Array]:
    number = st.integers
    channels, outputs, size = draw(number(1, 7)), draw(number(1, 7)), (draw(number(1, 9)), draw(number(1, 9)))
    rng = np.random.default_rng(draw(number(0, 99)))
    kind = draw(st.sampled_from(["conv", "linear", "transposed", "upsampled"]))
    if kind == "linear":
        return forms.linear(rng.integers(-5, 6, (outputs, channels)), size[0])
    kernel = draw(number(1, 3))
    weight = rng.integers(-5, 6, (outputs, channels, kernel, kernel))
    padding = (draw(number(kernel // 2, kernel)),) * 2
    if kind == "conv":
        return forms.conv2d(weight, size, (draw(number(1, 2)),) * 2, padding, (1, 1), 1)
    if kind == "upsampled":
        return forms.upsampled_conv2d(weight, size, (2, 2), padding, (1, 1), 1)
    return forms.conv_transpose2d(weight.swapaxes(0, 1), size, (2, 2), (0, 0), (0, 0), (1, 1), 1)


@settings(max_examples=150, deadline=None)
@given(layers(), st.integers(1, 5), st.sampled_from([256, 2048]), st.data())
def test_every_packing_computes_the_layer(
    layer: tuple[Geometry, Array], elements: int, dimension: int, data: st.DataObject
) -> None:
    geometry, weights = layer
    choices = layouts(geometry, dimension, elements)
    if not choices:
        assert Layout(geometry, Packing(1 << 40, elements, 1, 1, 1, 1)).image_stride > dimension
        return
    layout = data.draw(st.sampled_from(choices))
    picture = np.random.default_rng(0).integers(-9, 10, (elements, *geometry.picture))
    expected = correlate(picture, weights.astype(np.int64), geometry.taps, geometry.grid)
    np.testing.assert_array_equal(through_polynomials(layout, weights.astype(np.int8), picture), expected)


def test_large_pictures_are_cut_into_row_bands() -> None:
    geometry, weights = forms.conv2d(np.random.default_rng(0).integers(-5, 6, (3, 2, 3, 3)), (40, 40), (1, 1), (1, 1), (1, 1), 1)
    layout = layouts(geometry, 1024, 2)[0]
    assert layout.banded
    picture = np.random.default_rng(1).integers(-9, 10, (2, 2, 40, 40))
    expected = correlate(picture, weights.astype(np.int64), geometry.taps, geometry.grid)
    np.testing.assert_array_equal(through_polynomials(layout, weights.astype(np.int8), picture), expected)


@pytest.mark.parametrize("meet", [True, False])
def test_norms_are_those_of_the_polynomials(meet: bool) -> None:
    """Against the definition: the answer's weights as polynomials, added up coefficient by coefficient."""
    size = (1, 1) if meet else (3, 4)
    geometry, weights = forms.conv2d(np.random.default_rng(0).integers(-50, 51, (4, 5, 3, 3)), size, (1, 1), (1, 1), (1, 1), 1)
    assert any(layout.max_collisions > 1 for layout in layouts(geometry, 256, 1)) == meet
    for layout in layouts(geometry, 256, 1):
        sums: dict[tuple[int, int, int], int] = {}
        packing = layout.packing
        for (row, channel, tap), weight in np.ndenumerate(weights):
            power = row % packing.p_out * layout.output_stride - int(layout.shifts[channel, tap])
            turns, place = divmod(power, packing.dimension)
            key = (row // packing.p_out, channel // packing.p_in, place)
            sums[key] = sums.get(key, 0) + int(weight) * (-1) ** turns
        by_answer = [[value for key, value in sums.items() if key[0] == answer] for answer in range(layout.answers)]
        first, second = layout.answer_norms(weights.astype(np.int8))
        assert first == max(sum(map(abs, values)) for values in by_answer)
        assert second == pytest.approx(max(sum(value * value for value in values) for values in by_answer) ** 0.5)
        rows = layout.summed_norms(*row_norms(weights.astype(np.int8)))
        assert first <= rows[0]
        assert second <= rows[1] * layout.max_collisions**0.5 + 1e-9
        assert meet or (first, second) == rows


def test_a_batch_fills_polynomials_or_makes_blocks() -> None:
    """There are layouts for every number of blocks that six pictures can make, each also with one output per answer."""
    geometry, _ = forms.conv2d(np.ones((4, 5, 3, 3)), (4, 4), (1, 1), (1, 1), (1, 1), 1)
    choices = layouts(geometry, 256, 6)
    assert {layout.blocks for layout in choices} == {1, 2, 3, 6}
    for share in {layout.packing.images_per_poly for layout in choices}:
        assert any(layout.packing.p_out == 1 for layout in choices if layout.packing.images_per_poly == share)
    assert choices[0].blocks == 1


def test_a_packing_that_does_not_fit_is_refused() -> None:
    geometry, _ = forms.linear(np.ones((4, 4)), 8)
    with pytest.raises(ProtocolError, match="needs more than"):
        Layout(geometry, Packing(32, 1, 1, 8, 3, 2))
