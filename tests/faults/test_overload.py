"""More clients than a server takes: everybody waits, nobody is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

from hecompile.backends.region_server import RegionServer, Session
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.runtime.server import bind, create_app
from hecompile.runtime.service import Service
from hecompile.runtime.transports import HttpTransport
from hecompile.runtime.wire import pack_request

CLIENTS, REQUESTS = 48, 4


class Slow(RegionServer):
    """Answers what it was asked, after a while."""

    max_batch = 1

    def evaluate(self, payload: Buffer, batch: int, session: Session | None = None) -> Buffer:
        time.sleep(0.01)
        return payload

    def request_bytes(self, batch: int) -> int:
        return 4


@pytest.fixture
def url() -> Iterator[str]:
    listener = bind("127.0.0.1", 0)
    app = create_app(Service("slow", "0" * 64, True, {"slow": Slow()}))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)


@pytest.mark.promise("retries")
def test_clients_wait_for_a_busy_server(url: str) -> None:
    """Three times as many clients as may wait at the server: all get their own answers."""
    lost, right = list[str](), list[int]()

    def client(number: int) -> None:
        own = number.to_bytes(4, "big")
        with HttpTransport(url) as http:
            for _ in range(REQUESTS):
                reply = bytearray(4)
                try:
                    http.send("0" * 64, "slow", pack_request(1, [own]), reply)
                except ProtocolError as error:
                    lost.append(str(error))
                    return
                right.append(reply == own)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not lost
    assert right == [True] * (CLIENTS * REQUESTS)
