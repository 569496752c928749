"""Bodies that do not arrive and connections that say nothing cost those who open them, and nobody else."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from hecompile.compiler import Compiled
from hecompile.runtime.service import Service
from hecompile.runtime.serving.limits import Limits
from tests.faults.strangers import (
    DIGEST,
    Echo,
    answer,
    ask,
    closed_within,
    connect,
    good_request,
    head,
    metric,
    rss_mib,
    served,
    serving,
    until,
)

pytestmark = pytest.mark.promise("slow-senders")

QUICK = Limits(grace_s=1.0, first_byte_s=1.0, header_s=1.0, idle_s=1.0)


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    """A server that echoes up to a megabyte, with a short timeout."""
    with serving(Service("echo", DIGEST, True, {"echo": Echo(size=1 << 20)}), QUICK) as host_and_port:
        yield host_and_port


def stalled(address: tuple[str, int]) -> list[socket.socket]:
    """More bodies that do not come than requests may wait."""
    slow = [connect(address) for _ in range(80)]
    for connection in slow:
        connection.sendall(head("echo", 900_000))
    return slow


def test_bodies_that_never_come_shut_nobody_out(address: tuple[str, int]) -> None:
    """Others are answered long before any of them is given up; later all are told and closed."""
    patient = Limits(grace_s=300.0, first_byte_s=300.0, header_s=300.0, idle_s=300.0)
    with serving(Service("echo", DIGEST, True, {"echo": Echo(size=1 << 20)}), patient) as calm:
        slow = stalled(calm)
        assert ask(calm, good_request("echo"))[0] == 200
        for connection in slow:
            connection.close()
    slow = stalled(address)
    assert {answer(connection)[0] for connection in slow} == {408}
    assert closed_within(slow, 5) == len(slow)
    assert metric(address, "hecompile_refusals_total") == len(slow)


def test_a_byte_now_and_then_is_not_progress(address: tuple[str, int]) -> None:
    with connect(address) as slow:
        slow.sendall(head("echo", 900_000))
        started = time.monotonic()
        try:
            while time.monotonic() - started < 20:
                slow.sendall(b"x")
                time.sleep(0.2)
        except ConnectionError:
            pass
        assert time.monotonic() - started < 10


@pytest.mark.slow
def test_a_body_that_stops_close_to_its_end_is_given_up(address: tuple[str, int]) -> None:
    """Having been fast buys some time, not all of it."""
    with connect(address) as slow:
        slow.sendall(head("echo", 900_000) + bytes(899_999))
        slow.settimeout(30)
        assert answer(slow)[0] == 408


def test_room_is_taken_from_those_who_make_no_progress() -> None:
    """Four bodies fill the room; a fifth gets it from one that stalls."""
    limits = Limits(body_bytes=8 << 20, grace_s=20.0)
    with serving(Service("echo", DIGEST, True, {"echo": Echo(size=1 << 20)}), limits) as address:
        stalled = [connect(address) for _ in range(4)]
        for connection in stalled:
            connection.sendall(head("echo", 1 << 20) + b"x")
        assert until(lambda: metric(address, "hecompile_body_bytes") >= 4 << 20)
        time.sleep(1.1)
        assert ask(address, good_request("echo", bytes(1 << 20)))[0] == 200
        assert answer(stalled[0])[0] == 503


@pytest.mark.parametrize("sent", [b"", b"POST /v1/artif", b"POST /v1/artifacts/0/regions/x HTTP/1.1\r\nHost: h\r\n"])
def test_silent_connections_are_closed(address: tuple[str, int], sent: bytes) -> None:
    silent = [connect(address) for _ in range(20)]
    for connection in silent:
        connection.sendall(sent)
    assert closed_within(silent, 10) == len(silent)
    assert ask(address, good_request("echo"))[0] == 200


def test_a_header_that_comes_letter_by_letter_is_closed(address: tuple[str, int]) -> None:
    with connect(address) as slow:
        started = time.monotonic()
        try:
            for letter in b"GET /healthz HTTP/1.1\r\nX-Long: " + b"x" * 1000:
                slow.sendall(bytes([letter]))
                time.sleep(0.1)
        except ConnectionError:
            pass
        assert time.monotonic() - started < 10


def test_kept_connections_are_closed_after_a_while(address: tuple[str, int]) -> None:
    with connect(address) as kept:
        kept.sendall(good_request("echo"))
        assert answer(kept)[0] == 200
        assert closed_within([kept], 10) == 1


def test_an_answer_that_nobody_reads_is_given_up(address: tuple[str, int]) -> None:
    """Its bytes would stay in memory for as long as the connection lasts."""
    silent = []
    for _ in range(8):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(address)
        connection.sendall(good_request("echo", bytes(1 << 20)))
        silent.append(connection)
    assert until(lambda: metric(address, "hecompile_connections_closed_total") >= len(silent))


def test_endless_bodies_are_not_read_on(address: tuple[str, int]) -> None:
    """After a refusal nothing more of a body is swallowed."""
    sent, piece = 0, b"10000\r\n" + bytes(1 << 16) + b"\r\n"
    with connect(address) as endless:
        endless.sendall(head("echo", None))
        try:
            while sent < 200 << 20:
                endless.sendall(piece)
                sent += len(piece)
        except ConnectionError:
            pass
        assert answer(endless)[0] in (413, 0)
    assert sent < 40 << 20
    assert metric(address, "hecompile_refusals_total") == 1


def test_a_body_that_is_announced_too_long_is_refused_before_it_comes(address: tuple[str, int]) -> None:
    with connect(address) as long:
        long.sendall(head("echo", 10**12))
        status, came = answer(long)
        assert (status, b"connection: close" in came.lower()) == (413, True)


@pytest.mark.slow
@pytest.mark.parametrize("descriptors", [48, 256])
def test_more_connections_than_files_may_be_open(tiny: Compiled, descriptors: int) -> None:
    """Silent connections are closed for those that ask, and the log stays short, also with few files."""
    assert tiny.artifact is not None
    with served(tiny.artifact, descriptors=descriptors) as (address, process, log):
        silent = []
        for _ in range(300):
            connection = socket.socket()
            connection.setblocking(False)
            connection.connect_ex(address)
            silent.append(connection)
        for _ in range(20):
            started = time.monotonic()
            assert ask(address, b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")[0] == 200
            assert time.monotonic() - started < 5
        time.sleep(3)
        assert len(log.read_text()) < 20_000
        assert "out of system resource" not in log.read_text()
        assert rss_mib(process.pid) < 600
        for connection in silent:
            connection.close()


@pytest.mark.slow
def test_strangers_cannot_fill_the_log(tiny: Compiled) -> None:
    """Closed connections, broken HTTP and broken bodies, hundreds of times."""
    assert tiny.artifact is not None
    with served(tiny.artifact) as (address, _, log):
        for _ in range(200):
            with connect(address) as connection:
                connection.sendall(head("call_01", 5000, "0" * 64) + bytes(500))
            with connect(address) as connection:
                connection.sendall(b"\x16\x03\x01 no http\r\n\r\n")
            with connect(address) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert ask(address, b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")[0] == 200
        text = log.read_text()
        assert "Traceback" not in text
        assert len(text) < 2000
