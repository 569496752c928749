"""HTTP to a server that refuses, stumbles, goes away, or is somebody else's."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import hecompile
from hecompile.compiler import Compiled
from hecompile.errors import CompileError, HecompileError, ProtocolError
from hecompile.runtime.greeting import Greeting
from hecompile.runtime.service import load_service
from hecompile.runtime.transports import Access, HttpTransport, LocalTransport, ServerGoneError, Transport, stream
from hecompile.runtime.transports import connection as connections
from hecompile.runtime.transports import http as over_http
from hecompile.runtime.transports.address import parse_url


class Script(ThreadingHTTPServer):
    """Answers with the statuses of a list, one after another; keeps bodies and headers."""

    daemon_threads = True

    def __init__(self, statuses: list[int]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses, self.bodies, self.headers = statuses, list[bytes](), list[dict[str, str]]()
        self.extra: dict[str, str] = {}
        self.connections, self.delay_s = 0, 0.0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        assert isinstance(self.server, Script)
        self.server.connections += 1

    def do_DELETE(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Script)
        body = self.rfile.read(int(self.headers["content-length"]))
        server.bodies.append(body)
        server.headers.append({name.lower(): value for name, value in self.headers.items()})
        time.sleep(server.delay_s)
        status = server.statuses.pop(0) if server.statuses else 200
        if status == 0:
            self.close_connection = True
            return
        answer = body[:6].ljust(6, b"!") if status == 200 else b'{"error": "no\\u001b[31m"}'
        self.send_response(status)
        for name, value in {"Content-Length": str(len(answer)), **server.extra}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer)

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


def transport(script: Script, timeout_s: float = 5.0, retry_s: float = 3.0, access: Access | None = None) -> HttpTransport:
    return HttpTransport(f"http://127.0.0.1:{script.server_port}", timeout_s, retry_s, access)


def ask(http: Transport, body: bytes = b"cipher") -> bytes:
    reply = bytearray(6)
    http.send("digest", "region", [body[:3], memoryview(body)[3:]], reply)
    return bytes(reply)


@pytest.mark.promise("retries")
def test_retries_send_the_same_bytes(script: Script) -> None:
    script.statuses[:] = [503, 0, 504, 429, 408, 502]
    with transport(script, timeout_s=30, retry_s=20) as http:
        assert ask(http) == b"cipher"
    assert script.bodies == [b"cipher"] * 7


def test_one_connection_is_used_again_and_a_closed_one_is_noticed(script: Script) -> None:
    with transport(script) as http:
        assert [ask(http), ask(http), ask(http)] == [b"cipher"] * 3
        assert script.connections == 1
        script.extra["Connection"] = "close"
        ask(http)
        time.sleep(0.05)
        ask(http)
    assert script.connections == 2


def test_a_refusal_is_not_repeated_and_its_reason_is_shown(script: Script) -> None:
    script.statuses[:] = [422]
    with transport(script) as http, pytest.raises(ProtocolError, match=r"422: no\[31m$") as caught:
        ask(http)
    assert caught.value.status == 422
    assert len(script.bodies) == 1


@pytest.mark.parametrize(
    ("status", "reason"), [(301, "redirects are not followed"), (204, "only a reply with status 200"), (418, "418: no")]
)
def test_other_statuses_have_a_reason(script: Script, status: int, reason: str) -> None:
    script.statuses[:] = [status]
    with transport(script) as http, pytest.raises(ProtocolError, match=reason):
        ask(http)


def test_a_server_that_is_gone(script: Script) -> None:
    script.statuses[:] = [503] * 999
    started = time.monotonic()
    with transport(script, retry_s=0.5) as http, pytest.raises(ServerGoneError, match="attempts: 503: no"):
        ask(http)
    assert time.monotonic() - started < 3
    assert len(script.bodies) > 1


def test_nobody_listens() -> None:
    with HttpTransport("http://127.0.0.1:9", retry_s=0.2) as http, pytest.raises(ServerGoneError):
        ask(http)


def test_a_server_that_dies_late_is_asked_again(script: Script) -> None:
    """The time for retries begins with the first failure: an answer may have taken longer than that by then."""
    script.delay_s, script.statuses[:] = 0.7, [0]
    with transport(script, timeout_s=20, retry_s=0.5) as http:
        assert ask(http) == b"cipher"


def vanish(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """The server's name is not found so often, and then it is again."""
    really, failures = connections._connected, [socket.gaierror(socket.EAI_NONAME, "Name or service not known")] * times

    def vanished(*arguments: Any) -> socket.socket:
        if failures:
            raise failures.pop()
        return really(*arguments)

    monkeypatch.setattr(connections, "_connected", vanished)


@pytest.mark.promise("retries")
def test_a_name_that_vanishes_for_a_while_ends_no_run(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    with transport(script) as http:
        ask(http)
        http.close()
        vanish(monkeypatch, 2)
        assert ask(http) == b"cipher"


def test_a_name_that_was_never_found_is_told_at_once(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    vanish(monkeypatch, 2)
    with transport(script) as http, pytest.raises(ServerGoneError, match="one attempt: gaierror"):
        ask(http)


@pytest.mark.promise("retries")
def test_an_answer_that_takes_long_is_not_asked_for_again(script: Script) -> None:
    script.delay_s = 0.8
    with transport(script, timeout_s=20, retry_s=0.5) as http:
        assert ask(http) == b"cipher"
    assert len(script.bodies) == 1


@pytest.mark.promise("retries")
def test_retry_after_is_obeyed(script: Script) -> None:
    script.statuses[:], script.extra["Retry-After"] = [503, 503], "1"
    started = time.monotonic()
    with transport(script) as http:
        ask(http)
    assert time.monotonic() - started >= 2


@pytest.mark.parametrize("text", ["999999999999999999999", "Wed, 21 Oct 2065 07:28:00 GMT"])
def test_a_server_that_says_come_back_tomorrow_is_gone(script: Script, text: str) -> None:
    script.statuses[:], script.extra["Retry-After"] = [503] * 9, text
    started = time.monotonic()
    with transport(script) as http, pytest.raises(ServerGoneError):
        ask(http)
    assert time.monotonic() - started < 2
    assert len(script.bodies) == 1


@pytest.mark.parametrize("text", ["-1", "soon", "Wed, 99 Foo 2065", "\x7f", "Wed, 21 Oct 2015 07:28:00"])
def test_a_retry_after_that_is_none_does_no_harm(script: Script, text: str) -> None:
    script.statuses[:], script.extra["Retry-After"] = [503], text
    with transport(script) as http:
        assert ask(http) == b"cipher"


class Trickle(BaseHTTPRequestHandler):
    """Reads a request and answers it 100 bytes at a time, ten times a second."""

    def do_POST(self) -> None:
        left = int(self.headers["content-length"])
        while left > 0:
            piece = self.rfile.read1(100_000 if left > 1_000_000 else left)
            left -= len(piece)
            time.sleep(0.1 if left > 1_000_000 else 0)
        self.send_response(200)
        self.send_header("Content-Length", "10000")
        self.end_headers()
        for _ in range(100):
            self.wfile.write(bytes(100))
            time.sleep(0.1)

    def log_message(self, format: str, *args: object) -> None:
        return None


@pytest.mark.promise("total-time")
@pytest.mark.parametrize("size", [6, 60_000_000])
def test_bodies_keep_a_least_rate(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """A reply and a request, each much slower than the rate asked for here, end long before the request's total time."""
    monkeypatch.setattr(stream, "GRACE_S", 0.3)
    monkeypatch.setattr(stream, "LEAST_RATE", 4 << 20)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Trickle)
    server.daemon_threads = True
    server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]  # clients hang up on it
    threading.Thread(target=server.serve_forever, daemon=True).start()
    started = time.monotonic()
    with (
        HttpTransport(f"http://127.0.0.1:{server.server_port}", timeout_s=60) as http,
        pytest.raises(ProtocolError, match="slower than"),
    ):
        http.send("digest", "region", [bytes(size)], bytearray(10_000))
    assert time.monotonic() - started < 30
    server.shutdown()
    server.server_close()


def test_a_keys_session_is_opened_and_closed(script: Script) -> None:
    with transport(script) as http, pytest.raises(ProtocolError, match="6 bytes, expected 32"):
        http.open_session("digest", [b"keys"])
    with transport(script) as http, pytest.raises(ProtocolError, match="6 bytes, expected 0"):
        http.close_session("digest", "0" * 32)


@pytest.mark.promise("threads")
def test_threads_get_their_own_answers(script: Script) -> None:
    with transport(script) as http:
        wrong: list[bytes] = []

        def work(mine: bytes) -> None:
            wrong.extend(answer for answer in (ask(http, mine) for _ in range(40)) if answer != mine)

        threads = [threading.Thread(target=work, args=(b"%06d" % number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    assert len(script.bodies) == 240
    assert script.connections <= 12


@pytest.mark.promise("forks")
def test_a_forked_child_does_not_speak_on_its_parents_connection(script: Script) -> None:
    with transport(script) as http:
        ask(http)
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if ask(http, b"child!") == b"child!" else 1)
            finally:
                os._exit(2)
        assert ask(http, b"parent") == b"parent"
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert ask(http, b"later!") == b"later!"
    assert script.connections == 2


def test_a_request_says_nothing_of_the_client_and_keeps_no_cookies(script: Script) -> None:
    script.extra["Set-Cookie"] = "id=1"
    with transport(script) as http:
        ask(http)
        ask(http)
    assert set(script.headers[1]) == {"host", "accept-encoding", "content-length", "idempotency-key"}
    tags = [headers["idempotency-key"] for headers in script.headers]
    assert len({*tags}) == len(tags)
    assert script.headers[1]["accept-encoding"] == "identity"


def test_proxies_of_the_environment_are_not_used(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with transport(script) as http:
        assert ask(http) == b"cipher"


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1", "http://::1", "http://[zz]", "ftp://localhost", "file:///etc/passwd", "http://", "http://:80",
        "localhost:8100", "", "http://localhost:99999", "http://localhost:0", "http://localhost:", "http://localhost:x",
        "http://local host",
        "http://a\nb", "http://a\x00b", "http://xn--a.\ud800", "http://\u2100.com", "http://a..b", "http://-a-",
        "http://" + "a" * 300,
        "http://a/?x=1", "http://a/#x", "http://@localhost", "x" * 5000, "http://a%00b/",
        "http://[1.2.3.4]", "http://" + "a." * 200,
    ],
)  # fmt: skip
def test_a_malformed_address_is_one_clear_error(url: str) -> None:
    with pytest.raises(CompileError, match="not an address of a server"):
        HttpTransport(url)


@pytest.mark.promise("access")
@pytest.mark.parametrize("secret", ["http://me:open-sesame@127.0.0.1:9", "http://me:open-sesame@[::1", "http://me:open-sesame@a b"])
def test_a_password_stands_in_no_message(secret: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(HecompileError) as caught:
        ask(HttpTransport(secret, retry_s=0))
    assert "sesame" not in f"{caught.value!r} {caught.value} {caplog.text}"


@pytest.mark.promise("access")
@pytest.mark.parametrize("mark", ["/", "?", "#", "@/"])
def test_a_password_with_marks_of_a_url_reaches_no_other_host(mark: str, caplog: pytest.LogCaptureFixture) -> None:
    """Else `http://me:1/sesame@host` would be the host `me`, and the rest a path of it."""
    with pytest.raises(CompileError, match=r"not an address of a server\n.*as %2F") as caught:
        HttpTransport(f"http://me:1234{mark}sesame@localhost")
    assert "sesame" not in f"{caught.value!r} {caplog.text}"
    assert "1234" not in f"{caught.value!r} {caplog.text}"
    assert parse_url("http://me:1234%2Fsesame@localhost").user == b"me:1234/sesame"


def test_a_password_stands_in_no_repr() -> None:
    http = HttpTransport("http://me:open-sesame@127.0.0.1:9")
    assert "sesame" not in f"{http!r} {http.url} {parse_url('http://me:open-sesame@127.0.0.1:9')!r}"


def test_a_password_becomes_basic_authorization(script: Script) -> None:
    with HttpTransport(f"http://me:open%20sesame@127.0.0.1:{script.server_port}") as http:
        ask(http)
    assert script.headers[0]["authorization"] == "Basic bWU6b3BlbiBzZXNhbWU="


@pytest.mark.promise("access")
def test_a_token_and_headers_are_sent_and_not_shown(script: Script) -> None:
    access = Access(token="s3cret", headers={"X-Tenant": "hidden"})
    assert "s3cret" not in repr(access)
    assert "hidden" not in repr(access)
    with transport(script, access=access) as http:
        ask(http)
    assert script.headers[0]["authorization"] == "Bearer s3cret"
    assert script.headers[0]["x-tenant"] == "hidden"


@pytest.mark.parametrize(
    "access",
    [
        {"token": "a\r\nX: y"}, {"token": ""}, {"token": "a b"}, {"headers": {"X\r\nY": "z"}}, {"headers": {"X": "a\r\nY: z"}},
        {"headers": {"Host": "a"}}, {"headers": {"content-length": "1"}}, {"headers": {"Transfer-Encoding": "chunked"}},
        {"headers": {"X": "\u00e9"}}, {"headers": {"": "x"}}, {"headers": {"X": "1", "x": "2"}},
        {"token": "a", "headers": {"authorization": "b"}},
    ],
)  # fmt: skip
def test_what_would_break_a_request_is_refused(access: dict[str, object]) -> None:
    with pytest.raises(CompileError):
        Access(**access)  # type: ignore[arg-type]


@pytest.mark.promise("access")
def test_secrets_do_not_travel_in_clear_to_another_machine() -> None:
    for url, access in (
        ("http://example.com", Access(token="s3cret")),
        ("http://me:s3cret@192.0.2.1", Access()),
        ("http://[2001:db8::1]", Access(headers={"X-Key": "s3cret"})),
    ):
        with pytest.raises(CompileError, match="without encryption") as caught:
            HttpTransport(url, access=access)
        assert "s3cret" not in str(caught.value)


@pytest.mark.promise("access")
def test_plain_http_to_another_machine_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for url in ("http://127.0.0.1", "http://[::1]:8", "http://localhost", "http://127.9.9.9", "https://example.com"):
            HttpTransport(url)
        assert not caplog.records
        HttpTransport("http://192.0.2.1:8100")
    assert "http://192.0.2.1:8100: plain HTTP to another machine" in caplog.text


def test_addresses_are_taken_apart() -> None:
    address = parse_url("https://me:a%40b@[2001:db8::1]:8443/base/")
    assert (address.host, address.port, address.prefix, address.user) == ("2001:db8::1", 8443, "/base", b"me:a@b")
    assert str(address) == "https://[2001:db8::1]:8443/base"
    assert str(parse_url("HTTP://Example.com:80/")) == "http://example.com"


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_a_server_on_ipv6() -> None:
    class Six(Script):
        address_family = socket.AF_INET6

        def __init__(self) -> None:
            ThreadingHTTPServer.__init__(self, ("::1", 0), Handler)
            self.statuses, self.bodies, self.headers = [], [], []
            self.extra, self.connections, self.delay_s = {}, 0, 0.0

    try:
        server = Six()
    except OSError:
        pytest.skip("no address of IPv6 here")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with HttpTransport(f"http://[::1]:{server.server_port}") as http:
        assert ask(http) == b"cipher"
    assert server.headers[0]["host"] == f"[::1]:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.promise("greeting")
def test_loading_refuses_a_server_of_another_artifact(tiny_clear: Compiled, script: Script) -> None:
    assert tiny_clear.artifact is not None
    service = load_service(tiny_clear.artifact)

    class Other(LocalTransport):
        def greet(self, digest: str) -> Greeting | None:
            return Greeting("f" * 64, "somebody else's", "9.9", service.greeting.wire, True)

    class Newer(LocalTransport):
        def greet(self, digest: str) -> Greeting | None:
            return Greeting(digest, "digits", "9.9", service.greeting.wire + 1, True)

    with pytest.raises(ProtocolError, match=r"serves artifact ffffffffffff \('somebody else's'\)"):
        hecompile.load(tiny_clear.artifact, Other(service), policy="simulation")
    with pytest.raises(ProtocolError, match=r"hecompile 9\.9\) speaks wire format"):
        hecompile.load(tiny_clear.artifact, Newer(service), policy="simulation")


@pytest.mark.parametrize(
    "document", [{}, [], 1, {"artifact": 1}, {"artifact": "a\u001b", "name": "", "version": "", "wire": 1, "encrypted": True}]
)
def test_a_greeting_that_is_none_is_refused(tiny_clear: Compiled, document: object) -> None:
    class Odd(Handler):
        def do_GET(self) -> None:
            data = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Plain", (Odd,), {"setup": BaseHTTPRequestHandler.setup}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(ProtocolError, match="greet"):
        hecompile.load(tiny_clear.artifact, f"http://127.0.0.1:{server.server_port}", policy="simulation")  # type: ignore[arg-type]
    server.shutdown()
    server.server_close()


def test_loading_notices_a_server_that_is_down(tiny_clear: Compiled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(over_http, "GREETING_RETRY_S", 0.2)
    with pytest.raises(ServerGoneError):
        hecompile.load(tiny_clear.artifact, "http://127.0.0.1:9", policy="simulation")  # type: ignore[arg-type]


@pytest.mark.promise("greeting")
def test_a_server_without_greetings_is_named_old(tiny_clear: Compiled) -> None:
    class Old(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Old)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.raises(ProtocolError, match="older than this client"):
        hecompile.load(tiny_clear.artifact, f"http://127.0.0.1:{server.server_port}", policy="simulation")  # type: ignore[arg-type]
    server.shutdown()
    server.server_close()


def test_options_that_mean_nothing_are_refused(tiny_clear: Compiled) -> None:
    folder = tiny_clear.artifact
    assert isinstance(folder, Path)
    with pytest.raises(CompileError, match="no effect without a URL: token"):
        hecompile.load(folder, policy="simulation", token="abc")
    with pytest.raises(CompileError, match="have no effect without TLS"):
        hecompile.load(folder, "http://127.0.0.1:9", policy="simulation", verify="ca.pem")
    with pytest.raises(TypeError, match="known options for a server are verify, cert, token, headers"):
        hecompile.load(folder, "http://127.0.0.1:9", policy="simulation", tokne="abc")  # type: ignore[call-arg]
