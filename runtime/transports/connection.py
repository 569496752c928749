"""One HTTP connection: made within seconds, a request and its reply at a time, and no reply believed that is not as announced."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from hecompile.buffers import Buffer, total_bytes
from hecompile.errors import ProtocolError
from hecompile.runtime.transports.address import Address
from hecompile.runtime.transports.stream import OutOfTimeError, Stream
from hecompile.untrusted import parse_json

__all__ = ["Connection", "Refusal", "printable"]

REDIRECTS = (300, 301, 302, 303, 307, 308)
CONNECT_S = 5.0  # name, address and TLS
REASON_LIMIT = 4096  # bytes of a refusal's body
REASON_S = 5.0  # that its body may take
_KEEPALIVE = {"TCP_KEEPIDLE": 20, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}  # seconds; milliseconds


class Refusal(Exception):  # noqa: N818
    """An answer that is no reply: its status, its reason, and when to come back."""

    def __init__(self, status: int, reason: str, retry_after: str | None) -> None:
        super().__init__(f"{status}: {reason}")
        self.status, self.retry_after = status, retry_after


class Connection:
    """To one address. Not for two threads at once; after an error it is dropped."""

    def __init__(self, address: Address, context: ssl.SSLContext | None, deadline: float) -> None:
        """Connect. Raises `OSError`."""
        self._stream = Stream(_connected(address, context, min(deadline, time.monotonic() + CONNECT_S)), deadline)
        self.used = False  # whether a request went over it

    @property
    def fresh(self) -> bool:
        """Whether another request may be sent."""
        return self._stream.unasked() is None

    @property
    def answered(self) -> bool:
        """Whether any byte of the last request's reply has come."""
        return self._stream.answered

    def drop(self) -> None:
        """Close it. What is under way in another process goes on."""
        self._stream.drop()

    def exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: Sequence[Buffer], reply: memoryview, exact: bool,
        deadline: float,
    ) -> tuple[int, bool]:  # fmt: skip
        """Send a request and read its reply, of exactly or at most the length of `reply`.

        Returns:
            The reply's length, and whether the connection can be used again.

        Raises:
            Refusal: for another status than 200.
            ProtocolError: for a reply that is not what the request asks for.
            OSError: if the connection ends.
            OutOfTimeError: when the deadline passes.
        """
        stream, self.used = self._stream, True
        stream.start(deadline)
        wire = http.client.HTTPConnection("unused")
        wire.sock = stream  # of a socket it asks for `sendall`, `makefile` and `close`
        wire.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in {**headers, "Accept-Encoding": "identity", "Content-Length": str(total_bytes(body))}.items():
            wire.putheader(name, value)
        wire.endheaders()
        with suppress(BrokenPipeError, ConnectionResetError):  # a server that refuses need not read on: its answer may be there
            stream.send_body(body)
        response = http.client.HTTPResponse(stream, method=method)  # type: ignore[arg-type]
        try:
            response.begin()
        except (http.client.HTTPException, ValueError, LookupError) as error:
            raise ProtocolError(f"no HTTP reply: {type(error).__name__} {printable(str(error))[:100]}") from error
        if response.status != 200:
            raise self._refusal(response, deadline)
        length = _announced(response, len(reply))
        if length > len(reply) or (exact and length != len(reply)):
            raise ProtocolError(f"a reply of {length} bytes, expected {'' if exact else 'at most '}{len(reply)}")
        stream.fill(reply[:length])
        rest = stream.unasked()
        if rest:
            raise ProtocolError(f"more bytes than the {length} that were announced")
        return length, rest is None and not response.will_close

    def _refusal(self, response: http.client.HTTPResponse, deadline: float) -> Refusal:
        """What the server says instead of a reply: the `error` of a short JSON document, or what the status is called."""
        status, reason = response.status, ""
        if status in REDIRECTS:
            reason = "redirects are not followed: give the address that the server really has"
        elif status >= 400:
            try:
                data = bytearray(min(_announced(response, REASON_LIMIT), REASON_LIMIT))
                self._stream.start(min(deadline, time.monotonic() + REASON_S))
                self._stream.fill(memoryview(data))
                found = parse_json(bytes(data), "the reason")
                reason = printable(str(found["error"])) if isinstance(found, dict) and "error" in found else ""
            except (ProtocolError, OSError, OutOfTimeError):
                pass  # a refusal without a reason is one all the same
        return Refusal(status, reason or _called(status), response.headers.get("Retry-After"))


def _called(status: int) -> str:
    if status < 400:
        return "a reply has status 200"
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"


def printable(text: str) -> str:
    """A stranger's text, short, and with nothing in it that moves a terminal's cursor."""
    return "".join(char for char in text[:200] if char.isprintable())


def _announced(response: http.client.HTTPResponse, most: int) -> int:
    """The length of a body. Raises `ProtocolError` unless it is announced exactly once and the body comes as it is."""
    headers = response.headers
    if headers.get_all("Transfer-Encoding"):
        raise ProtocolError(f"a reply in chunks, where {most} bytes and their number are expected")
    encodings = [each.strip().lower() for each in headers.get_all("Content-Encoding") or []]
    if any(each != "identity" for each in encodings):
        raise ProtocolError(f"a reply encoded as {printable(', '.join(encodings))[:60]}, which was not asked for")
    lengths = [each.strip() for each in headers.get_all("Content-Length") or []]
    if len(lengths) != 1 or not lengths[0].isascii() or not lengths[0].isdigit() or len(lengths[0]) > 18:
        raise ProtocolError(
            f"a reply must announce its length exactly once, not as {printable(', '.join(lengths))[:60] or 'nothing'}"
        )
    return int(lengths[0])


def _connected(address: Address, context: ssl.SSLContext | None, deadline: float) -> socket.socket:
    """A socket to the first of the host's addresses that answers; each has its share of the time."""
    found, failure = _resolve(address, deadline), OSError("no address")
    for place, (family, kind, protocol, _, target) in enumerate(found):
        left = (deadline - time.monotonic()) / (len(found) - place)
        if left <= 0:
            raise TimeoutError(f"not connected within {CONNECT_S:g} s")
        plain = socket.socket(family, kind, protocol)
        try:
            plain.settimeout(left)
            plain.connect(target)
            _set_options(plain)
            if context is None:
                return plain
            plain.settimeout(max(deadline - time.monotonic(), 0.001))
            return context.wrap_socket(plain, server_hostname=address.host.partition("%")[0])
        except OSError as error:
            plain.close()
            failure = error
            if isinstance(error, ssl.SSLError):
                break
        except BaseException:
            plain.close()
            raise
    raise failure


def _resolve(address: Address, deadline: float) -> list[tuple[Any, ...]]:
    """The host's addresses. The system's resolver knows no deadline, so names are asked for in a thread that may be left behind."""
    try:
        ipaddress.ip_address(address.host)
        return _addresses(address)
    except ValueError:
        pass
    found: list[list[tuple[Any, ...]] | Exception] = []

    def ask() -> None:
        try:
            found.append(_addresses(address))
        except (OSError, UnicodeError) as error:
            found.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(max(deadline - time.monotonic(), 0))
    if not found:
        raise TimeoutError(f"the name '{address.host}' was not found within {CONNECT_S:g} s")
    if isinstance(found[0], Exception):
        raise found[0] if isinstance(found[0], OSError) else OSError(f"'{address.host}' is no name of a host")
    return found[0]


def _addresses(address: Address) -> list[tuple[Any, ...]]:
    return list(socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM))


def _set_options(plain: socket.socket) -> None:
    """Send small messages at once, and notice a host that is gone."""
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            plain.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
