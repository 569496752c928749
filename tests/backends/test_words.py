"""Words on the wire: any width, any count, nothing lost and nothing hidden in the padding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hecompile.backends.words import pack_bits, packed_bytes, unpack_bits
from hecompile.errors import ProtocolError


@given(st.integers(1, 64), st.integers(1, 50), st.randoms(use_true_random=False))
def test_round_trip(bits: int, count: int, random: object) -> None:
    words = np.array([random.getrandbits(bits) for _ in range(count)], np.uint64)  # type: ignore[attr-defined]
    data = pack_bits(words, bits)
    assert len(data) == packed_bytes(count, bits)
    np.testing.assert_array_equal(unpack_bits(memoryview(data), count, bits), words)


def test_a_wrong_size_is_refused() -> None:
    with pytest.raises(ProtocolError, match="take 10"):
        unpack_bits(memoryview(bytes(11)), 8, 10)


def test_bits_after_the_last_word_must_be_zero() -> None:
    with pytest.raises(ProtocolError, match="not zero"):
        unpack_bits(memoryview(b"\x00\xff"), 1, 9)
