"""Sessions under pressure: their room is held while keys come, idle ones make room, and nobody takes all of them."""

from __future__ import annotations

import struct
import threading
import time

import msgpack
import pytest

from hecompile.errors import ProtocolError
from hecompile.runtime.service import Service
from hecompile.runtime.serving.limits import Limits
from hecompile.runtime.sessions import SessionLimits, SessionStore
from hecompile.runtime.wire import FORMAT, TAG_HEADER, new_tag, pack_keys
from tests.faults.strangers import DIGEST, answer, ask, connect, metric, serving, until
from tests.runtime.keyed import KeyedServer

pytestmark = pytest.mark.promise("session-room")


class Wide(KeyedServer):
    """A region whose key takes a megabyte on the wire, and three in memory."""

    def key_sizes(self) -> dict[str, int]:
        return {"mask": 1 << 20}

    def held_bytes(self, name: str) -> int:
        return 3 << 20

    def load_key(self, name: str, data: memoryview) -> object:
        return bytes(data[:1])


KEYS = b"".join(pack_keys({"mask": bytes(1 << 20)}))


def upload(body: bytes = KEYS, *more: str) -> bytes:
    """A request that opens a session."""
    lines = [f"POST /v1/artifacts/{DIGEST}/sessions HTTP/1.1", "Host: here", f"Content-Length: {len(body)}", *more]
    return "\r\n".join([*lines, "", ""]).encode() + body


def keyed(limits: SessionLimits) -> Service:
    return Service("keyed", DIGEST, True, {"call_01": Wide()}, SessionStore(limits))


def test_room_is_held_while_keys_are_on_their_way() -> None:
    """Of sixteen uploads at once only those that fit are accepted; the others are refused immediately."""
    with serving(keyed(SessionLimits(sessions=64, total_bytes=10 << 20))) as address:
        slow = [connect(address) for _ in range(2)]
        for connection in slow:
            connection.sendall(upload()[:-1])
        assert until(lambda: metric(address, "hecompile_session_bytes") > 8 << 20)
        statuses = [ask(address, upload()[:1000])[0] for _ in range(14)]
        assert statuses == [503] * 14
        for connection in slow:
            connection.sendall(KEYS[-1:])
        assert [answer(connection)[0] for connection in slow] == [200, 200]


def test_keys_count_as_they_lie_in_memory() -> None:
    with serving(keyed(SessionLimits(total_bytes=8 << 20))) as address:
        assert ask(address, upload())[0] == 200
        assert metric(address, "hecompile_session_bytes") == 3 << 20
        assert ask(address, upload())[0] == 200
        assert ask(address, upload())[0] == 503


def test_an_upload_that_breaks_off_gives_its_room_back() -> None:
    with serving(keyed(SessionLimits(total_bytes=5 << 20))) as address:
        for _ in range(3):
            with connect(address) as broken:
                broken.sendall(upload()[:5000])
        assert until(lambda: metric(address, "hecompile_session_bytes") == 0)
        assert ask(address, upload())[0] == 200


def test_uploads_do_not_keep_regions_waiting() -> None:
    """As many uploads that stop before their last byte as there may be sessions."""
    with serving(keyed(SessionLimits(sessions=20))) as address:
        slow = [connect(address) for _ in range(20)]
        for connection in slow:
            connection.sendall(upload()[:-1])
        started = time.monotonic()
        status, _ = ask(
            address, f"POST /v1/artifacts/{DIGEST}/regions/call_01 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".encode()
        )
        assert (status, time.monotonic() - started < 2) == (422, True)


@pytest.mark.slow
def test_uploads_that_stop_are_given_up() -> None:
    with serving(keyed(SessionLimits(sessions=2)), Limits(grace_s=1.0)) as address:
        slow = [connect(address) for _ in range(2)]
        for connection in slow:
            connection.sendall(upload()[:-1])
        assert [answer(connection)[0] for connection in slow] == [408, 408]
        assert ask(address, upload())[0] == 200


def test_whoever_fills_all_sessions_loses_the_idle_ones() -> None:
    """Sessions that were opened and never used make room soon."""
    with serving(keyed(SessionLimits(sessions=8))) as address:
        assert [ask(address, upload())[0] for _ in range(8)] == [200] * 8
        assert until(lambda: ask(address, upload())[0] == 200)
        assert metric(address, "hecompile_sessions") == 8
        assert metric(address, "hecompile_sessions_ended_total") >= 1


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_longest_idle_session_goes_first_and_is_told_so() -> None:
    clock = Clock()
    store = SessionStore(SessionLimits(sessions=2), clock)
    first, second = store.open({}, 1), store.open({}, 1)
    for clock.now, used in ((1.0, second), (2.0, first)):
        store.find(used)
    clock.now = 30.0
    with pytest.raises(ProtocolError, match="come back later"):
        store.open({}, 1)
    clock.now = 61.5
    third = store.open({}, 1)
    with pytest.raises(ProtocolError, match="open a new one") as caught:
        store.find(second)
    assert caught.value.status == 410
    assert store.find(first).identifier == first
    assert store.find(third).identifier == third


def test_a_session_at_work_is_never_idle() -> None:
    clock = Clock()
    store = SessionStore(SessionLimits(sessions=1), clock)
    busy = store.open({}, 1)
    with store.use(busy):
        clock.now = 5000.0
        with pytest.raises(ProtocolError, match="come back later"):
            store.open({}, 1)
    assert store.find(busy).identifier == busy


def test_one_owner_has_a_part_of_all_sessions() -> None:
    """The quota is on those that can be told apart: tokens and addresses of other machines."""
    clock = Clock()
    store = SessionStore(SessionLimits(sessions=10, per_client=3), clock)
    for _ in range(3):
        store.open({}, 1, store.reserve(1, "192.0.2.1"))
    with pytest.raises(ProtocolError, match="you have 3 sessions"):
        store.reserve(1, "192.0.2.1")
    assert store.reserve(1, "192.0.2.2")
    assert all(store.reserve(1, "") for _ in range(5))
    clock.now = 2.0
    store.open({}, 1, store.reserve(1, "192.0.2.1"))
    assert len(store) == 3


def test_an_upload_that_is_sent_again_finds_its_session() -> None:
    tag = f"{TAG_HEADER}: {new_tag()}"
    with serving(keyed(SessionLimits())) as address:
        names = [ask(address, upload(KEYS, tag))[1][-32:] for _ in range(2)]
        assert names[0] == names[1]
        assert metric(address, "hecompile_sessions") == 1


def test_uploads_at_once_never_take_more_than_there_is() -> None:
    """Many threads reserve, open and close; the count holds at every moment."""
    store = SessionStore(SessionLimits(sessions=1000, total_bytes=100, unused_s=1000.0))
    most = []

    def use() -> None:
        for _ in range(200):
            try:
                with store.reserve(30) as reservation:
                    most.append(store.total_bytes)
                    store.close(store.open({}, 30, reservation))
            except ProtocolError:
                continue

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) <= 90
    assert store.total_bytes == 0


@pytest.mark.parametrize(
    "keys",
    [
        {"a": 1, b"b": 2},
        {b"mask": 1 << 20},
        {1: 1 << 20},
        {"mask": "1"},
        {"mask": True},
        {"mask": 1.0},
        {"mask": -1},
        {"mask": [1]},
        {"mask": None},
        [],
        None,
    ],
)
@pytest.mark.parametrize("form", [FORMAT, None, "3", b"3", [3]])
def test_no_header_of_keys_breaks_the_server(keys: object, form: object) -> None:
    header = msgpack.packb({"format": form, "keys": keys})
    body = struct.pack("<I", len(header)) + header + bytes(1 << 20)
    service = keyed(SessionLimits())
    with pytest.raises(ProtocolError) as caught:
        service.open_session(DIGEST, body)
    assert caught.value.status == 422
