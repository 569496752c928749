"""Requests as bytes: what is well-formed round-trips, everything else is a `ProtocolError`."""

from __future__ import annotations

import struct

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hecompile.errors import ProtocolError
from hecompile.runtime.wire import (
    FORMAT,
    HEADER_LIMIT,
    SESSION_DIGITS,
    key_limit,
    pack_keys,
    pack_request,
    unpack_keys,
    unpack_request,
)


@given(st.integers(1, 256), st.binary(max_size=100), st.sampled_from(["", "0" * SESSION_DIGITS]))
def test_round_trip(batch: int, payload: bytes, session: str) -> None:
    body = b"".join(pack_request(batch, [payload], session))
    assert unpack_request(body) == (batch, session, memoryview(payload))
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
        {"format": FORMAT, "batch": 1, "bytes": 0},
        {"format": FORMAT, "batch": 1, "bytes": 0, "session": "", "more": 1},
        {"format": FORMAT, "batch": True, "bytes": 0, "session": ""},
        {"format": FORMAT, "batch": 1.0, "bytes": 0, "session": ""},
        {"format": 1, "batch": 1, "bytes": 0, "session": ""},
        {"format": FORMAT, "batch": 0, "bytes": 0, "session": ""},
        {"format": FORMAT, "batch": 1, "bytes": 7, "session": ""},
        {"format": FORMAT, "batch": 1, "bytes": 0, "session": b""},
        [2, 1, 0, ""],
    ],
)
def test_headers_with_other_fields_are_refused(header: object) -> None:
    data = msgpack.packb(header)
    with pytest.raises(ProtocolError):
        unpack_request(struct.pack("<H", len(data)) + data)


SIZES = {"relin": 9, "galois 3": 4}


def test_keys_round_trip_within_their_limit() -> None:
    keys = {"galois 3": b"abc", "relin": b"123456789"}
    body = b"".join(pack_keys(keys))
    assert len(body) <= key_limit(SIZES)
    assert {name: bytes(data) for name, data in unpack_keys(body, SIZES).items()} == keys


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"relin": b"1"}, "missing .'galois 3'.*new session"),
        ({"relin": b"1", "galois 3": b"1", "galois 5": b"1"}, "unknown .'galois 5'"),
        ({"relin": bytes(10), "galois 3": b"1"}, "'relin' has 10 bytes, at most 9"),
        ({"relin": b"", "galois 3": b"1"}, "'relin' has 0 bytes"),
    ],
)
def test_other_keys_are_refused(keys: dict[str, bytes], reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        unpack_keys(b"".join(pack_keys(keys)), SIZES)


@given(st.binary(max_size=80), st.integers(0, 40))
def test_damaged_keys_are_refused(noise: bytes, cut: int) -> None:
    good = b"".join(pack_keys({"galois 3": b"abc", "relin": b"123456789"}))
    for body in (noise, good[:cut], good + noise + b"x"):
        with pytest.raises(ProtocolError):
            unpack_keys(body, SIZES)


@pytest.mark.parametrize("depth", [1, 500, 1000, 1023, 2000])
@pytest.mark.parametrize("field", ["format", "keys", "length of a key"])
def test_nesting_breaks_nothing(field: str, depth: int) -> None:
    """Headers of many keys have room for lists that are nested deeper than Python prints."""
    sizes = {f"rotate_{number}": 8 for number in range(200)}
    nested = b"\x91" * depth + b"\xc0"
    fields = {"format": bytes([FORMAT]), "keys": msgpack.packb(dict.fromkeys(sizes, 8))}
    if field == "length of a key":
        fields["keys"] = msgpack.packb(dict.fromkeys(sizes, 8))[:-1] + nested
    else:
        fields[field] = nested
    header = b"\x82" + b"".join(msgpack.packb(name) + value for name, value in fields.items())
    with pytest.raises(ProtocolError):
        unpack_keys(struct.pack("<I", len(header)) + header + bytes(1600), sizes)
