"""Replies of random bytes, and good ones with random damage, end in the reply or in an error of ours."""

from __future__ import annotations

import socket
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hecompile.errors import CompileError, ProtocolError
from hecompile.runtime.greeting import parse_greeting
from hecompile.runtime.transports import connection as connections
from hecompile.runtime.transports.address import parse_url
from hecompile.runtime.transports.connection import Connection, Refusal

GOOD = [
    b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 6\r\n\r\nanswer",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200 OK\r\ncontent-length:6\r\nconnection: close\r\nset-cookie: a=b\r\n\r\nanswer",
    b'HTTP/1.1 422 No\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 15\r\n\r\n{"error": "no"}',
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nanswer\r\n0\r\n\r\n",
]
ADDRESS = parse_url("http://127.0.0.1:9")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good reply with a few pieces replaced."""
    data = bytearray(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        data[start : start + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return bytes(data)


@pytest.mark.promise("replies")
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(damaged(), st.binary(max_size=300), st.binary(max_size=100).map(lambda data: b"HTTP/1.1 200 OK\r\n" + data)))
def test_a_reply_is_itself_or_an_error(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(connections, "_connected", lambda *_: ours)
    reply, deadline, said, size = bytearray(6), time.monotonic() + 30, "", -1
    with ours, theirs:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        connection = Connection(ADDRESS, None, deadline)
        try:
            size, _ = connection.exchange("POST", "/", {"Host": "a"}, [b"x"], memoryview(reply), True, deadline)
        except (Refusal, ProtocolError, OSError) as error:
            said = str(error)
    assert said.isprintable()
    assert bool(said) is (size < 0)
    assert size < 0 or (size == 6 and data.endswith(bytes(reply)))


NOT_QUITE = st.dictionaries(st.text(max_size=8), st.integers()).map(lambda document: repr(document).encode())


@pytest.mark.promise("greeting")
@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100) | NOT_QUITE)
def test_a_greeting_is_one_or_an_error(data: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_greeting(data, "the server")
    assert len(str(caught.value)) < 500


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40) | st.text(max_size=40).map(lambda text: "http://" + text) | st.text("[]:@/%.0a", max_size=20))
def test_an_address_is_one_or_an_error(text: str) -> None:
    try:
        address = parse_url(text)
    except CompileError:
        return
    assert address.scheme in ("http", "https")
    assert 0 < address.port < 65536
    assert str(parse_url(str(address))) == str(address)
