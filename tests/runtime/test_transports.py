"""HTTP to a server that refuses, stumbles or goes away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hecompile.errors import ProtocolError
from hecompile.runtime.transports import HttpTransport, ServerGoneError


class Script(ThreadingHTTPServer):
    """Answers with the statuses of a list, one after another; keeps the bodies."""

    def __init__(self, statuses: list[int]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses, self.bodies = statuses, list[bytes]()


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Script)
        server.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        status = server.statuses.pop(0) if server.statuses else 200
        if status == 0:
            self.connection.close()
            return
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b"answer" if status == 200 else b'{"error": "no\\u001b[31m"}')

    def log_message(self, format: str, *args: object) -> None:
        return None


@pytest.fixture
def script() -> Iterator[Script]:
    server = Script([])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def transport(script: Script) -> HttpTransport:
    return HttpTransport(f"http://127.0.0.1:{script.server_port}", timeout_s=5, retries=3, pause_s=0.01)


def test_retries_send_the_same_bytes(script: Script) -> None:
    script.statuses[:] = [503, 0, 504]
    with transport(script) as http:
        reply = bytearray(6)
        http.send("digest", "region", [b"cip", b"her"], reply)
        assert reply == b"answer"
    assert script.bodies == [b"cipher"] * 4


def test_a_refusal_is_not_repeated_and_its_reason_is_shown(script: Script) -> None:
    script.statuses[:] = [422]
    with transport(script) as http, pytest.raises(ProtocolError, match=r"422: no\[31m$"):
        http.send("digest", "region", [b"cipher"], bytearray(6))
    assert len(script.bodies) == 1


def test_a_server_that_is_gone(script: Script) -> None:
    script.statuses[:] = [503] * 9
    with transport(script) as http, pytest.raises(ServerGoneError, match="after 4 attempts"):
        http.send("digest", "region", [b"cipher"], bytearray(6))


def test_nobody_listens() -> None:
    with HttpTransport("http://127.0.0.1:9", retries=1, pause_s=0.01) as http, pytest.raises(ServerGoneError):
        http.send("digest", "region", [b"cipher"], bytearray(6))
