"""Layers in tiles: what is encrypted and what is revealed add up to the layer, whatever its form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hecompile.errors import ProtocolError
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.coo import Coo
from hecompile.ir.linear import Array, Geometry, conv2d, conv_transpose2d, correlate, linear, upsampled_conv2d
from hecompile.ir.tiles import Tiles

RNG = np.random.default_rng(0)
FORMS = {
    "3x3": conv2d(RNG.integers(-9, 10, (3, 2, 3, 3)), (8, 12), (1, 1), (1, 1), (1, 1), 1),
    "1x1": conv2d(RNG.integers(-9, 10, (3, 2, 1, 1)), (8, 12), (1, 1), (0, 0), (1, 1), 1),
    "without padding": conv2d(RNG.integers(-9, 10, (3, 2, 3, 3)), (8, 12), (1, 1), (0, 0), (1, 1), 1),
    "more padding than reach": conv2d(RNG.integers(-9, 10, (3, 2, 1, 1)), (8, 12), (1, 1), (2, 2), (1, 1), 1),
    "strided": conv2d(RNG.integers(-9, 10, (3, 2, 3, 3)), (8, 12), (2, 2), (1, 1), (1, 1), 1),
    "dilated": conv2d(RNG.integers(-9, 10, (3, 2, 3, 3)), (8, 12), (1, 1), (2, 2), (2, 2), 1),
    "transposed": conv_transpose2d(RNG.integers(-9, 10, (2, 3, 3, 3)), (8, 12), (2, 2), (1, 1), (1, 1), (1, 1), 1),
    "upsampled": upsampled_conv2d(RNG.integers(-9, 10, (3, 2, 3, 3)), (8, 12), (2, 2), (1, 1), (1, 1), 1),
    "tokens": linear(RNG.integers(-9, 10, (3, 2)), 24),
}


def in_tiles(picture: Array, geometry: Geometry, weights: Array, split: ChannelSplit) -> Array:
    """The layer as the server and the client compute it together."""
    assert split.tiles is not None
    small = split.encrypted_geometry(geometry)
    answers = correlate(split.sent(picture, geometry), weights, small.taps, small.grid)
    revealed_part = split.tiles.spread(split.revealed_entries(picture, geometry), split.tiles.revealed)
    return split.tiles.merge(answers, geometry) + correlate(revealed_part, weights, geometry.taps, geometry.grid)


@settings(max_examples=15, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("form", FORMS)
def test_the_parts_add_up_to_the_layer(form: str, data: st.DataObject) -> None:
    geometry, weights = FORMS[form]
    weights = weights.astype(np.int64)
    cuts = [(8, 1), (3, 1), (24, 1)] if geometry.tokens else [(2, 2), (4, 3), (1, 2), (4, 1)]
    rows, columns = data.draw(st.sampled_from(cuts))
    numbers = data.draw(st.sets(st.integers(0, rows * columns - 1), min_size=1, max_size=rows * columns - 1))
    split = ChannelSplit(2, tiles=Tiles(rows, columns, tuple(sorted(numbers))))
    assert split.tiles is not None
    assert split.tiles.fits(geometry)
    picture = RNG.integers(-99, 100, (3, *geometry.picture))
    want = correlate(picture, weights, geometry.taps, geometry.grid)
    np.testing.assert_array_equal(in_tiles(picture, geometry, weights, split), want)


def test_tiles_are_cut_and_put_back_where_they_were() -> None:
    tiles, picture = Tiles(2, 3, (0, 4)), RNG.integers(1, 99, (5, 2, 8, 12))
    encrypted, revealed = (tiles.spread(tiles.cut(picture, which), which) for which in (tiles.encrypted, tiles.revealed))
    np.testing.assert_array_equal(encrypted + revealed, picture)
    np.testing.assert_array_equal(encrypted[2, 1] != 0, tiles.mask(8, 12))
    assert tiles.mask(8, 12).sum() == 2 * 4 * 4


def test_the_server_gets_the_picture_rounded_outside_the_encrypted_tiles_only() -> None:
    geometry, _ = FORMS["3x3"]
    split = ChannelSplit(2, bits=6, tiles=Tiles(2, 2, (1,)))
    picture = RNG.integers(-500, 501, (1, *geometry.picture))
    seen, mask = split.seen(picture, geometry, 500), Tiles(2, 2, (1,)).mask(8, 12)
    step, _ = split.steps(500)
    np.testing.assert_array_equal(seen[..., mask], picture[..., mask])
    np.testing.assert_array_equal(seen[..., ~mask], split.round(picture, 500)[..., ~mask] * step)
    assert (np.abs(seen - picture).max(axis=(0, 2, 3)) <= split.errors(geometry, 500) - 0.5).all()


def test_channels_without_weights_are_neither_encrypted_nor_revealed() -> None:
    geometry, _ = FORMS["strided"]
    split = ChannelSplit(2, absent=(0,), tiles=Tiles(2, 2, (1, 2)))
    picture = RNG.integers(-9, 10, (3, *geometry.picture))
    assert split.sent(picture, geometry).shape == (6, 4, 2, 3)
    assert split.revealed_entries(picture, geometry).shape == split.revealed_shape(geometry, 3) == (6, 4, 2, 3)
    assert split.encrypted_share(geometry) == 0.75  # half of one of two channels is revealed


@pytest.mark.parametrize(
    "arguments",
    [(2, 2, ()), (2, 2, (0, 1, 2, 3)), (2, 2, (4,)), (2, 2, (-1,)), (2, 2, (1, 0)), (2, 2, (1, 1)), (0, 2, (0,))],
    ids=str,
)
def test_tiles_that_make_no_sense_are_refused(arguments: tuple[int, int, tuple[int, ...]]) -> None:
    with pytest.raises(ProtocolError):
        Tiles(*arguments)


def test_a_layer_reveals_channels_or_tiles() -> None:
    with pytest.raises(ProtocolError, match="at once"):
        ChannelSplit(2, (0,), tiles=Tiles(2, 2, (0,)))


@pytest.mark.parametrize(("cut", "fits"), [((2, 2), True), ((4, 6), True), ((8, 12), False), ((3, 2), False)])
def test_tiles_are_whole_in_a_strided_layer_too(cut: tuple[int, int], fits: bool) -> None:
    assert Tiles(*cut, (0,)).fits(FORMS["strided"][0]) is fits


@pytest.mark.parametrize("form", FORMS)
def test_what_is_encrypted_spreads_as_far_as_the_taps(form: str) -> None:
    geometry, weights = FORMS[form]
    inside = np.zeros(geometry.size, np.int64)
    inside[3:5] = 1
    spread = Coo(tuple(np.flatnonzero(inside).tolist()), inside.size, "places").through(geometry, weights)
    value = np.broadcast_to(inside, (1, 2, *geometry.size))
    picture = geometry.to_picture(value[..., 0].transpose(0, 2, 1) if geometry.tokens else value)
    grid = correlate(picture, np.abs(weights), geometry.taps, geometry.grid)
    output = geometry.from_picture(grid, (1, geometry.size[0]))
    reached = output[0].any(axis=-1) if geometry.tokens else output[0].any(axis=0)
    assert spread.encrypted == tuple(np.flatnonzero(reached).tolist())
    assert spread.count == np.prod(geometry.out_size)
