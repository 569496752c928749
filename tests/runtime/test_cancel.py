"""An evaluation that nobody waits for any more is given up."""

from __future__ import annotations

import socket
import threading

from hecompile.backends.region_server import RegionServer, Session
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.runtime.server import bind, serve_socket
from hecompile.runtime.service import Service
from hecompile.runtime.serving.limits import Limits
from hecompile.runtime.wire import pack_request


class Slow(RegionServer):
    """Evaluates until it is cancelled."""

    max_batch = 1

    def __init__(self) -> None:
        self.started, self.cancelled = threading.Event(), threading.Event()

    def request_bytes(self, batch: int) -> int:
        return 1

    def cancel(self) -> None:
        self.cancelled.set()

    def evaluate(self, payload: Buffer, batch: int, session: Session | None = None) -> Buffer:
        self.started.set()
        if not self.cancelled.wait(60):
            raise AssertionError("not cancelled")
        raise ProtocolError("cancelled", status=503)


def test_a_client_that_leaves_cancels_its_evaluation() -> None:
    region = Slow()
    service = Service("slow", "0" * 64, True, {"call_01": region})
    listener = bind("127.0.0.1", 0)
    threading.Thread(target=serve_socket, args=(service, listener, Limits(abandoned_s=0.1)), daemon=True).start()
    body = b"".join(pack_request(1, [b"x"]))
    head = f"POST /v1/artifacts/{service.digest}/regions/call_01 HTTP/1.1\r\nhost: here\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection(listener.getsockname()) as connection:
        connection.sendall(head.encode() + body)
        assert region.started.wait(60)
    assert region.cancelled.wait(60)


def test_other_regions_do_nothing() -> None:
    region = Slow()
    service = Service("slow", "0" * 64, True, {"call_01": region})
    service.cancel("call_02")
    assert not region.cancelled.is_set()
    service.cancel("call_01")
    assert region.cancelled.is_set()
