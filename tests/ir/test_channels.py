"""How channels are split between ciphertexts and what is revealed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hecompile.errors import ProtocolError
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.coo import Coo
from hecompile.ir.linear import conv2d


@given(bits=st.integers(2, 11), limit=st.integers(127, 2047))
def test_what_is_revealed_has_the_declared_bits_and_one_less_than_the_quantiser(bits: int, limit: int) -> None:
    step, most = ChannelSplit(2, (1,), (), bits).steps(limit)
    assert step >= 2
    assert most <= 2 ** (bits - 1) - 1
    assert (2 * most + 1).bit_length() <= bits


@given(bits=st.integers(2, 11), limit=st.integers(127, 2047), data=st.data())
def test_rounding_stays_within_the_stated_error(bits: int, limit: int, data: st.DataObject) -> None:
    geometry, _ = conv2d(np.ones((1, 2, 1, 1)), (1, 1), (1, 1), (0, 0), (1, 1), 1)
    split = ChannelSplit(2, (1,), (), bits)
    picture = np.array(data.draw(st.lists(st.integers(-limit, limit), min_size=2, max_size=2))).reshape(1, 2, 1, 1)
    seen = split.seen(picture, geometry, limit)
    assert seen[0, 0] == picture[0, 0]
    assert abs(int(seen[0, 1, 0, 0] - picture[0, 1, 0, 0])) <= split.errors(geometry, limit)[1] - 0.5
    assert abs(int(seen[0, 1, 0, 0])) <= limit


def test_strided_layers_split_by_channels_of_the_tensor() -> None:
    geometry, _ = conv2d(np.ones((1, 3, 2, 2)), (4, 4), (2, 2), (0, 0), (1, 1), 1)
    split = ChannelSplit(3, (0, 2))
    assert split.encrypted == (1,)
    assert split.places(split.encrypted, geometry).tolist() == [4, 5, 6, 7]
    assert split.encrypted_geometry(geometry).picture[0] == 4


def test_what_depends_on_an_encrypted_channel_is_encrypted() -> None:
    weight = np.zeros((4, 1, 2, 2))  # depthwise, two outputs per channel
    weight[:3] = 1
    geometry, weights = conv2d(weight, (4, 4), (2, 2), (0, 0), (1, 1), 2)
    assert Coo((1,), 2).through(geometry, weights) == Coo((2,), 4)
    assert Coo((0,), 2).through(geometry, weights) == Coo((0, 1), 4)
    dense, full = conv2d(np.ones((3, 2, 3, 3)), (4, 4), (1, 1), (1, 1), (1, 1), 1)
    assert Coo((1,), 2).through(dense, full) == Coo((0, 1, 2), 3)


@pytest.mark.parametrize(
    "arguments",
    [(2, (0, 1)), (2, (0,), (1,)), (2, (2,)), (2, (-1,)), (2, (0,), (0,)), (0,), (2, (0,), (), 12), (2, (0,), (), 1)],
    ids=str,
)
def test_splits_that_make_no_sense_are_refused(arguments: tuple[object, ...]) -> None:
    with pytest.raises(ProtocolError):
        ChannelSplit(*arguments)  # type: ignore[arg-type]
