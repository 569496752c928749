"""TLS: whom a client believes, and what it shows of itself."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hecompile.errors import CompileError, ProtocolError
from hecompile.runtime.transports import Access, HttpTransport, ServerGoneError
from hecompile.runtime.transports.access import access_of

HERE = Path(__file__).parent / "certificates"
CA, CERT = HERE / "authority.pem", (HERE / "client.pem", HERE / "client.key")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return None


@contextmanager
def tls_server(client_ca: Path | None = None, host: str = "127.0.0.1") -> Iterator[str]:
    """A server that answers what it is asked, and insists on certificates of `client_ca`; its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(HERE / "server.pem", HERE / "server.key")
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    server = ThreadingHTTPServer((host, 0), Handler)
    server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]  # refused clients are not its errors
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://{host}:{server.server_port}"
    server.shutdown()
    server.server_close()


def echo(url: str, access: Access, size: int = 300_000) -> None:
    body, reply = [b"head", b"x" * size, b"tail"], bytearray(size + 8)
    with HttpTransport(url, timeout_s=20, retry_s=0.5, access=access) as http:
        for _ in range(2):  # over one connection
            http.send("digest", "region", body, reply)
            assert reply == b"".join(body)


@pytest.mark.promise("access")
def test_a_servers_certificate_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    with tls_server() as url:
        with pytest.raises(ProtocolError, match="name the certificates to trust with verify="):
            echo(url, Access())
        echo(url, Access(verify=CA))
        echo(url, Access(verify=ssl.create_default_context(cafile=str(CA))))
        monkeypatch.setenv("SSL_CERT_FILE", str(CA))
        echo(url, Access())


def test_a_certificate_is_for_its_own_host() -> None:
    with tls_server(host="127.0.0.2") as url, pytest.raises(ProtocolError, match=r"not valid for '127\.0\.0\.2'"):
        echo(url, Access(verify=CA))


def test_a_forked_child_leaves_its_parents_session_alone() -> None:
    with tls_server() as url, HttpTransport(url, access=Access(verify=CA)) as http:
        reply = bytearray(4)
        http.send("digest", "region", [b"one."], reply)
        child = os.fork()
        if child == 0:
            try:
                http.send("digest", "region", [b"two."], reply)
                http.close()
                os._exit(0 if reply == b"two." else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        (kept,) = vars(http)["_idle"]
        http.send("digest", "region", [b"tri."], reply)
        assert reply == b"tri."
        assert list(vars(http)["_idle"]) == [kept]


def test_trusting_anybody_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with tls_server() as url:
        echo(url, Access(verify=False))
    assert "whoever answers is trusted to be the server" in caplog.text


def test_a_client_shows_its_certificate() -> None:
    with tls_server(client_ca=CA) as url:
        with pytest.raises((ProtocolError, ServerGoneError)):
            echo(url, Access(verify=CA))
        echo(url, Access(verify=CA, cert=CERT))


@pytest.mark.parametrize(
    "access",
    [
        Access(verify=HERE / "absent.pem"), Access(verify=HERE / "make.sh"), Access(cert=HERE / "absent.pem"),
        Access(cert=HERE / "make.sh"), Access(cert=(HERE / "client.pem", HERE / "server.key")),
        Access(cert=(HERE / "client.pem", HERE / "client-locked.key")),
    ],
)  # fmt: skip
def test_certificates_that_cannot_be_used_are_named(access: Access) -> None:
    with pytest.raises(CompileError, match="cannot be used"):
        HttpTransport("https://127.0.0.1:9", access=access)


def test_plain_http_where_tls_was_meant() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(ProtocolError, match="TLS"):
        echo(f"https://127.0.0.1:{server.server_port}", Access())
    server.shutdown()
    server.server_close()


@pytest.mark.promise("total-time")
def test_a_server_that_never_shakes_hands() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(ServerGoneError):
            HttpTransport(f"https://127.0.0.1:{silent.getsockname()[1]}", timeout_s=1).send(
                "digest", "region", [b"x"], bytearray(1)
            )
        assert time.monotonic() - started < 10


def test_what_options_leave_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HECOMPILE_CA", str(CA))
    monkeypatch.setenv("HECOMPILE_CERT", str(CERT[0]))
    monkeypatch.setenv("HECOMPILE_KEY", str(CERT[1]))
    monkeypatch.setenv("HECOMPILE_TOKEN", "abc")
    monkeypatch.setenv("HECOMPILE_HEADERS", "X-One: 1\nX-Two: 2")
    access = access_of({})
    assert (access.verify, access.cert, access.token) == (str(CA), (str(CERT[0]), str(CERT[1])), "abc")
    assert access.headers == {"X-One": "1", "X-Two": "2"}
    with tls_server(client_ca=CA) as url:
        echo(url, access)
    other = access_of({"verify": False, "token": "other", "headers": {}})
    assert (other.verify, other.token, other.headers) == (False, "other", {})
    monkeypatch.setenv("HECOMPILE_HEADERS", "no colon")
    with pytest.raises(CompileError, match="without a colon"):
        access_of({})


def test_no_warning_without_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        HttpTransport("https://example.com", access=Access(verify=CA, token="abc"))
    assert not caplog.records
