"""Requests as bytes: what is well-formed round-trips, everything else is a `ProtocolError`."""

from __future__ import annotations

import struct

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hecompile.errors import ProtocolError
from hecompile.runtime.wire import HEADER_LIMIT, pack_request, unpack_request


@given(st.integers(1, 256), st.binary(max_size=100))
def test_round_trip(batch: int, payload: bytes) -> None:
    body = pack_request(batch, payload)
    assert unpack_request(body) == (batch, payload)
    assert len(body) - len(payload) <= HEADER_LIMIT


@given(st.binary(max_size=200))
@example(b"")
@example(b"\xff\xff")
@example(struct.pack("<H", 1) + b"\xc1")
def test_garbage_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack_request(body)


@pytest.mark.parametrize(
    "header",
    [
        {"format": 1, "batch": 1},
        {"format": 1, "batch": 1, "bytes": 0, "more": 1},
        {"format": 1, "batch": True, "bytes": 0},
        {"format": 1, "batch": 1.0, "bytes": 0},
        {"format": 2, "batch": 1, "bytes": 0},
        {"format": 1, "batch": 0, "bytes": 0},
        {"format": 1, "batch": 1, "bytes": 7},
        [1, 1, 0],
    ],
)
def test_headers_with_other_fields_are_refused(header: object) -> None:
    data = msgpack.packb(header)
    with pytest.raises(ProtocolError):
        unpack_request(struct.pack("<H", len(data)) + data)
