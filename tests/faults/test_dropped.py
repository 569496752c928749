"""Work is done for those who wait for it: not for clients that are gone, and once for a request that is sent twice."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from urllib.request import urlopen

import pytest
import uvicorn

from hecompile.buffers import Buffer
from hecompile.compiler import Compiled
from hecompile.errors import ProtocolError
from hecompile.runtime.server import bind, create_app
from hecompile.runtime.service import Service
from hecompile.runtime.serving.client_identity import Tokens
from hecompile.runtime.serving.limits import Limits
from hecompile.runtime.transports import HttpTransport
from hecompile.runtime.wire import TAG_HEADER, new_tag, pack_request
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
    served,
    serving,
    until,
)

pytestmark = pytest.mark.promise("no-work-for-the-gone")


PATIENT = Limits(abandoned_s=60.0)  # so that a client that is gone may come again however busy the machine is


def tagged(payload: bytes, tag: str) -> bytes:
    return good_request("echo", payload, f"{TAG_HEADER}: {tag}")


def test_requests_whose_clients_are_gone_are_not_evaluated() -> None:
    """Eight send and hang up while another one is evaluated; the ninth does not wait for them."""
    region = Held()
    with serving(Service("echo", DIGEST, True, {"echo": region})) as address:
        first = connect(address)
        first.sendall(good_request("echo"))
        assert region.started.wait(30)
        for _ in range(8):
            with connect(address) as connection:
                connection.sendall(good_request("echo"))
        assert until(lambda: metric(address, "hecompile_dropped_requests_total") == 8)
        region.released.set()
        assert ask(address, good_request("echo"))[0] == 200
        assert answer(first)[0] == 200
    assert region.evaluated == 2


def test_a_request_that_is_sent_again_finds_its_evaluation() -> None:
    """The connection breaks while the answer is computed: the same request gets it, and nothing is computed twice."""
    region, tag = Held(), new_tag()
    with serving(Service("echo", DIGEST, True, {"echo": region}), PATIENT) as address:
        with connect(address) as broken:
            broken.sendall(tagged(b"once", tag))
            assert region.started.wait(30)
        with connect(address) as again:
            again.sendall(tagged(b"once", tag))
            assert until(lambda: metric(address, "hecompile_repeated_requests_total") == 1)
            region.released.set()
            status, came = answer(again)
        assert (status, came[-4:]) == (200, b"once")
        assert metric(address, "hecompile_repeated_requests_total") == 1
    assert region.evaluated == 1


def test_an_answer_that_got_lost_is_kept_for_a_while() -> None:
    region, tag = Echo(), new_tag()
    with serving(Service("echo", DIGEST, True, {"echo": region})) as address:
        assert [ask(address, tagged(b"once", tag))[1][-4:] for _ in range(3)] == [b"once"] * 3
        assert ask(address, tagged(b"more", new_tag()))[1][-4:] == b"more"
    assert region.evaluated == 2


def test_answers_are_kept_within_bytes_and_seconds() -> None:
    region, limits = Echo(), Limits(kept_bytes=6, kept_s=0.5)
    with serving(Service("echo", DIGEST, True, {"echo": region}), limits) as address:
        first, second = new_tag(), new_tag()
        ask(address, tagged(b"one.", first))
        ask(address, tagged(b"two.", second))
        ask(address, tagged(b"one.", first))
        assert region.evaluated == 3
        time.sleep(0.6)
        ask(address, tagged(b"one.", first))
    assert region.evaluated == 4


def test_a_tag_belongs_to_one_region() -> None:
    """Who sends the tag of one request to another region gets that region's answer."""
    one, other, tag = Echo(), Echo(), new_tag()
    with serving(Service("echo", DIGEST, True, {"echo": one, "other": other})) as address:
        ask(address, tagged(b"mine", tag))
        assert ask(address, good_request("other", b"hers", f"{TAG_HEADER}: {tag}"))[1][-4:] == b"hers"


@pytest.mark.parametrize("tag", ["", "x", "0" * 31, "G" * 32, "0" * 10_000])
def test_what_is_no_tag_is_refused(tag: str) -> None:
    with serving(Service("echo", DIGEST, True, {"echo": Echo()})) as address:
        assert ask(address, tagged(b"once", tag))[0] == 422


def test_repetitions_of_one_request_take_no_memory() -> None:
    """Bodies of repeated requests are read and not kept."""
    region, tag = Held(size=1 << 20), new_tag()
    with serving(Service("echo", DIGEST, True, {"echo": region}), Limits(body_bytes=8 << 20)) as address:
        connections = [connect(address) for _ in range(40)]
        for connection in connections:
            connection.sendall(tagged(bytes(1 << 20), tag))
            region.started.wait(30)
        assert until(lambda: metric(address, "hecompile_repeated_requests_total") == len(connections) - 1)
        assert metric(address, "hecompile_body_bytes") <= 2 << 20
        region.released.set()
        assert {answer(connection)[0] for connection in connections} == {200}
    assert region.evaluated == 1


def test_a_client_that_loses_its_connection_gets_the_answer_with_its_next_attempt() -> None:
    """The client's own repetition, through something on the way that cuts the first connection."""
    region, reply = Held(), bytearray(4)
    with serving(Service("echo", DIGEST, True, {"echo": region}), PATIENT) as address, Cutting(address, 1, region.started) as port:

        def release() -> None:
            """When the repetition is there."""
            until(lambda: metric(address, "hecompile_repeated_requests_total") == 1)
            region.released.set()

        threading.Thread(target=release, daemon=True).start()
        with HttpTransport(f"http://127.0.0.1:{port}") as http:
            http.send(DIGEST, "echo", pack_request(1, [b"once"]), reply)
        assert reply == b"once"
    assert region.evaluated == 1


def test_nobody_waits_longer_for_those_who_have_used_more() -> None:
    """One address fills the queue; another one's first request is next."""
    region, busy, calm = Held(), "b" * 32, "c" * 32
    with serving(Service("echo", DIGEST, True, {"echo": region}), tokens=Tokens([busy, calm])) as address:
        crowd = [connect(address) for _ in range(10)]
        for connection in crowd:
            connection.sendall(good_request("echo", b"good", f"Authorization: Bearer {busy}"))
        assert until(lambda: metric(address, "hecompile_waiting_requests", calm) == 9)
        with connect(address) as other:
            other.sendall(good_request("echo", b"calm", f"Authorization: Bearer {calm}"))
            assert until(lambda: metric(address, "hecompile_waiting_requests", calm) == 10)
            region.released.set()
            assert answer(other)[0] == 200
        assert {answer(connection)[0] for connection in crowd} == {200}
    assert region.payloads.index(b"calm") < 4


def test_a_queue_that_would_take_too_long_sends_away_with_the_time_to_come_again() -> None:
    region = Echo(seconds=0.5)
    with serving(Service("echo", DIGEST, True, {"echo": region}), Limits(queue_s=2.0)) as address:
        assert ask(address, good_request("echo"))[0] == 200
        crowd = [connect(address) for _ in range(12)]
        for connection in crowd:
            connection.sendall(good_request("echo"))
        answers = [answer(connection) for connection in crowd]
    sent_away = [came for status, came in answers if status == 503]
    assert {status for status, _ in answers} == {200, 503}
    assert 4 <= len(answers) - len(sent_away) <= 7
    assert all(b"retry-after: " in came.lower() for came in sent_away)


def test_giving_up_one_evaluation_never_meets_the_next() -> None:
    """A slow `cancel` is over before another request has its turn."""

    class Cancelled(Echo):
        cancelling = False
        met = 0

        def evaluate(self, payload: Buffer, batch: int, session: object = None) -> Buffer:
            self.met += self.cancelling
            return super().evaluate(payload, batch)

        def cancel(self) -> None:
            self.cancelling = True
            time.sleep(1.0)
            self.cancelling = False

    region = Cancelled(seconds=0.6)
    with serving(Service("echo", DIGEST, True, {"echo": region}), Limits(abandoned_s=0.3)) as address:
        with connect(address) as gone:
            gone.sendall(good_request("echo"))
            assert region.started.wait(30)
        assert ask(address, good_request("echo"))[0] == 200
    assert (region.evaluated, region.met) == (2, 0)


@pytest.mark.slow
def test_a_server_that_is_told_to_stop_ends_soon(tiny: Compiled) -> None:
    """Slow bodies and silent connections do not keep it."""
    assert tiny.artifact is not None
    with served(tiny.artifact) as (address, process, _):
        held = [connect(address) for _ in range(5)]
        for connection in held[:3]:
            connection.sendall(head("call_01", 5000, _digest(address)))
        time.sleep(0.3)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        assert time.monotonic() - started < 5
        assert closed_within(held, 1) == len(held)


def test_what_waits_when_a_server_stops_is_told_to_come_again() -> None:
    region, listener = Held(), bind("127.0.0.1", 0)
    app = create_app(Service("echo", DIGEST, True, {"echo": region}))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()
    address = listener.getsockname()
    waiting = [connect(address) for _ in range(3)]
    for connection in waiting:
        connection.sendall(good_request("echo"))
    assert region.started.wait(30)
    assert until(lambda: metric(address, "hecompile_waiting_requests") == 2)
    app.state.handler.queue.close()
    region.released.set()
    assert sorted(answer(connection)[0] for connection in waiting) == [200, 503, 503]
    assert ask(address, b"GET /readyz HTTP/1.1\r\nHost: here\r\n\r\n")[0] == 503
    server.should_exit = True


def test_a_region_that_breaks_answers_with_an_error_and_goes_on() -> None:
    class Broken(Echo):
        def evaluate(self, payload: Buffer, batch: int, session: object = None) -> Buffer:
            if payload == b"fail":
                raise RuntimeError("a bug")
            if payload == b"no..":
                raise ProtocolError("no")
            return payload

    with serving(Service("echo", DIGEST, True, {"echo": Broken()})) as address:
        assert [ask(address, good_request("echo", payload))[0] for payload in (b"fail", b"no..", b"fine")] == [500, 422, 200]


def _digest(address: tuple[str, int]) -> str:
    digest: str = json.load(urlopen(f"http://{address[0]}:{address[1]}/healthz"))["artifact"]
    return digest


class Cutting:
    """A relay that cuts its first connections when a request has gone through, and passes the others on."""

    def __init__(self, target: tuple[str, int], cuts: int, through: threading.Event) -> None:
        self._target, self._cuts, self._through = target, cuts, through
        self._listener = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> int:
        threading.Thread(target=self._accept, daemon=True).start()
        port: int = self._listener.getsockname()[1]
        return port

    def _accept(self) -> None:
        while True:
            try:
                inner, _ = self._listener.accept()
            except OSError:
                return
            outer = connect(self._target)
            self._cuts -= 1
            threading.Thread(target=self._pass, args=(inner, outer), daemon=True).start()
            if self._cuts >= 0:
                threading.Thread(target=self._cut, args=(inner, outer), daemon=True).start()
            else:
                threading.Thread(target=self._pass, args=(outer, inner), daemon=True).start()

    def _cut(self, *connections: socket.socket) -> None:
        self._through.wait(60)
        for connection in connections:
            connection.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _pass(source: socket.socket, sink: socket.socket) -> None:
        try:
            while piece := source.recv(1 << 16):
                sink.sendall(piece)
        except OSError:
            return

    def __exit__(self, *error: object) -> None:
        self._listener.close()
