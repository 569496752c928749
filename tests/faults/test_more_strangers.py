"""Strangers who use HTTP in ways that no client needs: bodies where none are read, tiny chunks, requests ahead of answers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hecompile.runtime.service import Service
from hecompile.runtime.serving.limits import Limits
from hecompile.runtime.sessions import SessionLimits, SessionStore
from hecompile.runtime.wire import TAG_HEADER, new_tag, pack_keys, pack_request
from tests.faults.strangers import (
    DIGEST,
    Echo,
    Held,
    answer,
    ask,
    closed_within,
    connect,
    good_request,
    head,
    metric,
    serving,
    until,
)
from tests.runtime.keyed import KeyedServer

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n"


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    """A server that echoes up to a megabyte."""
    with serving(Service("echo", DIGEST, True, {"echo": Echo(size=1 << 20)})) as host_and_port:
        yield host_and_port


def swallowed_mib(connection: socket.socket, piece: bytes, most_mib: int = 200) -> float:
    """How much of an endless body the server takes before it ends the connection."""
    sent = 0
    try:
        while sent < most_mib << 20:
            connection.sendall(piece)
            sent += len(piece)
    except ConnectionError:
        pass
    return sent / 2**20


@pytest.mark.promise("slow-senders")
@pytest.mark.parametrize(
    "target", ["GET /healthz", "GET /metrics", "POST /nowhere", "PUT /healthz", f"DELETE /v1/artifacts/{DIGEST}/sessions/x"]
)
@pytest.mark.parametrize("framing", ["Transfer-Encoding: chunked", "Content-Length: 1000000000000"])
def test_no_route_swallows_a_body_that_it_does_not_read(address: tuple[str, int], target: str, framing: str) -> None:
    with connect(address) as endless:
        endless.sendall(f"{target} HTTP/1.1\r\nHost: here\r\n{framing}\r\n\r\n".encode())
        assert answer(endless)[0] in (200, 404, 405)
        assert swallowed_mib(endless, b"10000\r\n" + bytes(1 << 16) + b"\r\n") < 40
    assert ask(address, HEALTH)[0] == 200


@pytest.mark.promise("slow-senders")
def test_a_short_body_that_no_route_reads_keeps_its_connection(address: tuple[str, int]) -> None:
    with connect(address) as kept:
        for _ in range(3):
            kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\n12345")
            assert answer(kept)[0] == 200


@pytest.mark.promise("slow-senders")
def test_a_body_that_stops_after_its_answer_is_given_up(address: tuple[str, int]) -> None:
    with connect(address) as stopped:
        stopped.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\nContent-Length: 5\r\n\r\n123")
        assert answer(stopped)[0] == 200
        assert closed_within([stopped], 10) == 1


@pytest.mark.promise("slow-senders")
def test_broken_chunks_after_an_answer_leave_no_traceback(address: tuple[str, int], caplog: pytest.LogCaptureFixture) -> None:
    with connect(address) as broken:
        broken.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert answer(broken)[0] == 200
        broken.sendall(b"no length\r\n\r\n")
        assert closed_within([broken], 10) == 1
    assert "Traceback" not in caplog.text
    assert "Fatal error" not in caplog.text


@pytest.mark.promise("slow-senders")
@pytest.mark.parametrize("piece", [b"1\r\nx\r\n" * 20_000, (b"1;" + b"e" * 8000 + b"\r\nx\r\n") * 20], ids=["bytes", "extensions"])
def test_tiny_chunks_do_not_keep_the_server_busy(address: tuple[str, int], piece: bytes) -> None:
    """Taking 256 KiB of them apart took seconds, in which nobody else was answered."""
    with connect(address) as tiny:
        tiny.sendall(head("echo", None))
        assert swallowed_mib(tiny, piece) < 40
    assert ask(address, HEALTH)[0] == 200


@pytest.mark.promise("slow-senders")
def test_chunks_of_a_size_that_clients_use_are_taken(address: tuple[str, int]) -> None:
    body = b"".join(pack_request(1, [bytes(1 << 20)]))
    pieces = [body[start : start + 2048] for start in range(0, len(body), 2048)]
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nTrailer: x\r\n\r\n"
    assert ask(address, head("echo", None) + chunked)[0] == 200


@pytest.mark.promise("slow-senders")
@pytest.mark.parametrize("length", [10**7, 10**19 - 1, 10**20 - 1])
def test_whoever_asks_before_sending_too_much_is_told_at_once(address: tuple[str, int], length: int) -> None:
    with connect(address) as polite:
        polite.sendall(head("echo", length, DIGEST, "Expect: 100-continue"))
        assert answer(polite)[0] == 413


def test_whoever_asks_before_sending_is_told_to_go_on(address: tuple[str, int]) -> None:
    request = good_request("echo", b"good", "Expect: 100-continue")
    start = request.index(b"\r\n\r\n") + 4
    with connect(address) as polite:
        polite.sendall(request[:start])
        assert answer(polite)[0] == 100
        polite.sendall(request[start:])
        assert answer(polite)[0] == 200


def test_nobody_is_sent_to_another_address(address: tuple[str, int]) -> None:
    """A redirection to the host that a request names would be one that a stranger chooses."""
    for request in (b"POST /healthz/", b"DELETE /v1/artifacts/0/sessions/1/"):
        assert ask(address, request + b" HTTP/1.1\r\nHost: elsewhere\r\n\r\n")[0] == 404


@pytest.mark.promise("slow-senders")
def test_a_length_beside_chunks_does_not_count(address: tuple[str, int]) -> None:
    """What such a request announces is less than what it sends: room is taken for the longest body there is."""
    with connect(address) as both:
        both.sendall(head("echo", None, DIGEST, "Content-Length: 5") + b"10000\r\n")
        assert until(lambda: metric(address, "hecompile_body_bytes") > 1 << 20)


@pytest.mark.promise("no-work-for-the-gone")
@pytest.mark.parametrize("more", [b"P", HEALTH, good_request("echo") * 20])
def test_whoever_sends_more_than_a_request_and_hangs_up_is_gone(more: bytes) -> None:
    """Bytes that are not read yet hide the end of a connection."""
    region = Held()
    with serving(Service("echo", DIGEST, True, {"echo": region})) as address:
        first = connect(address)
        first.sendall(good_request("echo"))
        assert region.started.wait(30)
        hasty = [connect(address) for _ in range(5)]
        for connection in hasty:
            connection.sendall(good_request("echo"))
        assert until(lambda: metric(address, "hecompile_waiting_requests") == 5)
        for connection in hasty:
            connection.sendall(more)
        time.sleep(0.1)
        for connection in hasty:
            connection.close()
        assert until(lambda: metric(address, "hecompile_dropped_requests_total") == 5)
        region.released.set()
        assert answer(first)[0] == 200
    assert region.evaluated == 1


@pytest.mark.promise("no-work-for-the-gone")
def test_requests_ahead_of_answers_are_answered_in_order(address: tuple[str, int]) -> None:
    with connect(address) as hasty:
        hasty.sendall(b"".join(good_request("echo", b"%04d" % number) for number in range(20)))
        came = b""
        while b"0019" not in came:
            came += hasty.recv(1 << 16)
    assert came.count(b"HTTP/1.1 200") == 20


@pytest.mark.promise("no-work-for-the-gone")
def test_a_repetition_keeps_its_evaluation_alive_while_it_comes() -> None:
    """The first connection ends while the second one's body is on its way: its request is still wanted."""
    region, tag = Held(), new_tag()
    request = good_request("echo", b"once", f"{TAG_HEADER}: {tag}")
    with serving(Service("echo", DIGEST, True, {"echo": region})) as address:
        with connect(address) as other:
            other.sendall(good_request("echo"))
            assert region.started.wait(30)
            first, second = connect(address), connect(address)
            first.sendall(request)
            assert until(lambda: metric(address, "hecompile_waiting_requests") == 1)
            second.sendall(request[:-2])
            assert until(lambda: metric(address, "hecompile_repeated_requests_total") == 1)
            first.close()
            time.sleep(0.3)
            second.sendall(request[-2:])
            region.released.set()
            status, came = answer(second)
        assert (status, came[-4:]) == (200, b"once")
        assert metric(address, "hecompile_dropped_requests_total") == 0


@pytest.mark.promise("slow-senders")
def test_unread_answers_are_thrown_away_when_others_need_the_connections() -> None:
    """Closing such a connection waits for its client; its descriptor and its bytes would stay, and not be counted."""
    with serving(Service("echo", DIGEST, True, {"echo": Echo(size=8 << 20)}), Limits(connections=6)) as address:
        own, before = [], _sockets()
        for _ in range(30):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(address)
            own.append(connection)
            try:
                connection.sendall(good_request("echo", bytes(8 << 20)))
            except ConnectionError:
                continue
        assert until(lambda: _sockets() - before - len(own) <= 6)


def narrow(address: tuple[str, int], received: int = 4096) -> socket.socket:
    """A connection whose own end takes about so many bytes before they are read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, received)
    connection.settimeout(30)
    connection.connect(address)
    return connection


@pytest.mark.promise("slow-senders")
def test_answers_that_only_the_system_holds_are_given_up_too() -> None:
    """They are small enough to leave this process at once."""
    service = Service("echo", DIGEST, True, {"echo": Echo(size=200_000)})
    with serving(service, Limits(grace_s=1.0, idle_s=1000.0)) as address:
        silent = [narrow(address) for _ in range(8)]
        for connection in silent:
            connection.sendall(good_request("echo", bytes(200_000)))
        assert until(lambda: metric(address, "hecompile_connections_closed_total") == len(silent))


@pytest.mark.promise("slow-senders")
def test_whoever_reads_steadily_gets_one_answer_after_the_other() -> None:
    """At every moment there is something left to be read, and never more than at the beginning."""
    service = Service("echo", DIGEST, True, {"echo": Echo(size=1 << 20)})
    with serving(service, Limits(grace_s=1.0)) as address, narrow(address, 1 << 16) as steady:
        for size in range(300_000, 200_000, -20_000):
            steady.sendall(good_request("echo", bytes(size)))
            left = size
            while left > 0:
                left -= len(steady.recv(1 << 16))
                time.sleep(0.15)
        steady.sendall(HEALTH)
        assert until(lambda: b"ok" in steady.recv(1 << 16))


@pytest.mark.promise("slow-senders")
def test_bodies_that_trickle_make_room_for_others() -> None:
    """A byte now and then, on all connections that there may be, is not what keeps a connection."""
    with serving(Service("echo", DIGEST, True, {"echo": Echo(size=1 << 20)}), Limits(connections=16)) as address:
        trickling = [connect(address) for _ in range(16)]
        for connection in trickling:
            connection.sendall(head("echo", 900_000))
        answered = []
        for _ in range(8):
            time.sleep(0.4)
            for connection in trickling:
                try:
                    connection.sendall(b"x")
                except ConnectionError:
                    continue
            try:
                answered.append(ask(address, good_request("echo"))[0])
            except ConnectionError:
                answered.append(0)
        assert answered[-4:] == [200] * 4


@pytest.mark.promise("slow-senders")
def test_slow_headers_go_before_kept_connections() -> None:
    """Letters of a header are no reason to keep its connection and close one that was served."""
    with serving(Service("echo", DIGEST, True, {"echo": Echo()}), Limits(connections=8)) as address:
        slow = [connect(address) for _ in range(7)]
        for connection in slow:
            connection.sendall(b"GET /healthz HTTP/1.1\r\nX-Long: ")
        time.sleep(0.2)
        with connect(address) as kept:
            kept.sendall(good_request("echo"))
            assert answer(kept)[0] == 200
            time.sleep(0.2)
            for connection in slow:
                connection.sendall(b"x")
            assert [ask(address, HEALTH)[0] for _ in range(3)] == [200] * 3
            kept.sendall(good_request("echo"))
            assert answer(kept)[0] == 200


@pytest.mark.promise("no-work-for-the-gone")
def test_whoever_fills_the_queue_fills_it_for_itself() -> None:
    """One address has all the seconds that it may wait for; another one's request is taken, and is next."""
    region = Echo(seconds=0.5)
    with serving(Service("echo", DIGEST, True, {"echo": region}), Limits(queue_s=2.0)) as address:
        assert ask(address, good_request("echo"))[0] == 200
        crowd = [connect(address) for _ in range(12)]
        for connection in crowd:
            connection.sendall(good_request("echo"))
        assert until(lambda: metric(address, "hecompile_refusals_total") > 4)
        with socket.create_connection(address, timeout=30, source_address=("127.0.0.9", 0)) as another:
            another.sendall(good_request("echo"))
            assert answer(another)[0] == 200
        assert {answer(connection)[0] for connection in crowd} == {200, 503}


@pytest.mark.promise("session-room")
def test_a_session_does_not_end_while_its_request_waits() -> None:
    """A session that was never used makes room soon, but not when its first request is in the queue."""
    region, store = Held(), SessionStore(SessionLimits(sessions=1))
    service = Service("keyed", DIGEST, True, {"call_01": KeyedServer(), "echo": region}, store)
    keys = b"".join(pack_keys({"mask": bytes(32)}))
    upload = f"POST /v1/artifacts/{DIGEST}/sessions HTTP/1.1\r\nHost: h\r\nContent-Length: {len(keys)}\r\n\r\n".encode() + keys
    with serving(service) as address:
        session = ask(address, upload)[1][-32:].decode()
        with connect(address) as busy, connect(address) as waiting:
            busy.sendall(good_request("echo"))
            body = b"".join(pack_request(1, [bytes(36)], session))
            waiting.sendall(head("call_01", len(body)) + body)
            assert until(lambda: metric(address, "hecompile_waiting_requests") == 1)
            time.sleep(1.1)
            assert ask(address, upload)[0] == 503
            region.released.set()
            assert answer(waiting)[0] == 200


@pytest.mark.promise("session-room")
def test_nobody_has_more_than_half_of_the_bytes_for_keys() -> None:
    store = SessionStore(SessionLimits(total_bytes=100))
    for _ in range(2):
        store.reserve(25, "192.0.2.1")
    with pytest.raises(Exception, match="you have 2 sessions"):
        store.reserve(25, "192.0.2.1")
    assert store.reserve(50, "192.0.2.2")
    assert SessionStore(SessionLimits(total_bytes=100)).reserve(90, "192.0.2.1")


SLOW = """
import sys
sys.path.insert(0, {root!r})
from tests.faults.strangers import DIGEST, Echo
from hecompile.cli.running import run
from hecompile.runtime.server import bind, serve_socket
from hecompile.runtime.service import Service
from hecompile.runtime.serving.limits import Limits

def serve():
    listener = bind("127.0.0.1", 0)
    print(listener.getsockname()[1], flush=True)
    serve_socket(Service("echo", DIGEST, True, {{"echo": Echo(60.0)}}), listener, Limits(stop_s=1.0))

run(serve)
"""


@pytest.mark.promise("no-work-for-the-gone")
@pytest.mark.parametrize("signal", [2, 15])
def test_a_long_evaluation_does_not_keep_a_server_from_ending(signal: int) -> None:
    """Its client is told to come again, the process ends without a traceback."""
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", SLOW.format(root=root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = ("127.0.0.1", int(process.stdout.readline()))
        waiting = [connect(address) for _ in range(3)]
        for connection in waiting:
            connection.sendall(good_request("echo"))
        assert until(lambda: metric(address, "hecompile_waiting_requests") == 2)
        started = time.monotonic()
        process.send_signal(signal)
        assert [answer(connection)[0] for connection in waiting] == [503] * 3
        _, errors = process.communicate(timeout=50)
        assert time.monotonic() - started < 30
        assert process.returncode == 128 + signal
        assert "Traceback" not in errors


def _sockets() -> int:
    """Sockets that this process has open."""
    count = 0
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")
        except OSError:
            continue
    return count
