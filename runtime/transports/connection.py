"""One HTTP connection: opened within seconds, used for one request at a time, and strict about the length of replies."""

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
CONNECT_S = 5.0  # for looking up the name, connecting, and TLS
REASON_LIMIT = 4096  # bytes read of a refusal's body
REASON_S = 5.0  # for reading a refusal's body
_KEEPALIVE = {
    "TCP_KEEPIDLE": 20,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 30_000,
}  # seconds, but the last in milliseconds


class Refusal(Exception):  # noqa: N818
    """Raised for an HTTP status other than 200, with the reason and the `Retry-After` header."""

    def __init__(self, status: int, reason: str, retry_after: str | None) -> None:
        super().__init__(f"{status}: {reason}")
        self.status, self.retry_after = status, retry_after


class Connection:
    """A connection to one address. Only one thread may use it at a time, and after an error it must be dropped."""

    def __init__(self, address: Address, context: ssl.SSLContext | None, deadline: float) -> None:
        """Connect until `deadline`, a time of `time.monotonic`. Raises `OSError`."""
        self._stream = Stream(_connected(address, context, min(deadline, time.monotonic() + CONNECT_S)), deadline)
        self.used = False  # whether a request was sent on it

    @property
    def fresh(self) -> bool:
        """Whether another request may be sent on it: it is open, and nothing unexpected has arrived."""
        return self._stream.unexpected() is None

    @property
    def answered(self) -> bool:
        """Whether any byte of the reply to the last request has arrived."""
        return self._stream.answered

    def drop(self) -> None:
        """Close the connection in this process. A forked process can go on using its copy."""
        self._stream.drop()

    def exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: Sequence[Buffer], reply: memoryview, exact: bool,
        deadline: float,
    ) -> tuple[int, bool]:  # fmt: skip
        """Send a request and read its reply, whose length must be that of `reply`, or at most that unless `exact`.

        Returns:
            The reply's length, and whether the connection can be used again.

        Raises:
            Refusal: for another status than 200.
            ProtocolError: for a malformed reply, or one of another length.
            OSError: if the connection ends.
            OutOfTimeError: when the deadline passes.
        """
        stream, self.used = self._stream, True
        stream.start(deadline)
        wire = http.client.HTTPConnection("unused")
        wire.sock = stream  # it uses only `sendall`, `makefile` and `close` of a socket
        wire.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in {**headers, "Accept-Encoding": "identity", "Content-Length": str(total_bytes(body))}.items():
            wire.putheader(name, value)
        wire.endheaders()
        with suppress(
            BrokenPipeError, ConnectionResetError
        ):  # a server may refuse without reading on, and its reply may be here already
            stream.send_body(body)
        response = http.client.HTTPResponse(stream, method=method)  # type: ignore[arg-type]
        try:
            response.begin()
        except (http.client.HTTPException, ValueError, LookupError) as error:
            raise ProtocolError(f"the reply is not HTTP: {type(error).__name__} {printable(str(error))[:100]}") from error
        if response.status != 200:
            raise self._refusal(response, deadline)
        length = _announced(response, len(reply))
        if length > len(reply) or (exact and length != len(reply)):
            raise ProtocolError(f"a reply of {length} bytes, expected {'' if exact else 'at most '}{len(reply)}")
        stream.fill(reply[:length])
        rest = stream.unexpected()
        if rest:
            raise ProtocolError(f"the reply has more bytes than the {length} that it announced")
        return length, rest is None and not response.will_close

    def _refusal(self, response: http.client.HTTPResponse, deadline: float) -> Refusal:
        """Return why the server refuses: the `error` of a short JSON document, or the name of the status."""
        status, reason = response.status, ""
        if status in REDIRECTS:
            reason = "redirects are not followed: give the address that the server really has"
        elif status >= 400:
            try:
                data = bytearray(min(_announced(response, REASON_LIMIT), REASON_LIMIT))
                self._stream.start(min(deadline, time.monotonic() + REASON_S))
                self._stream.fill(memoryview(data))
                document = parse_json(bytes(data), "the reason")
                reason = printable(str(document["error"])) if isinstance(document, dict) and "error" in document else ""
            except (ProtocolError, OSError, OutOfTimeError):
                pass  # the reason is optional
        return Refusal(status, reason or _called(status), response.headers.get("Retry-After"))


def _called(status: int) -> str:
    """Return the standard name of an HTTP status."""
    if status < 400:
        return "only a reply with status 200 is accepted"
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"


def printable(text: str) -> str:
    """Return text of a server in a form that is safe to print: at most 200 characters, and no control characters."""
    return "".join(char for char in text[:200] if char.isprintable())


def _announced(response: http.client.HTTPResponse, most: int) -> int:
    """Return the length of a body. Raises `ProtocolError` unless it is announced exactly once, and the body is neither chunked nor
    encoded."""
    headers = response.headers
    if headers.get_all("Transfer-Encoding"):
        raise ProtocolError(f"a chunked reply, where a length of at most {most} bytes must be announced")
    encodings = [encoding.strip().lower() for encoding in headers.get_all("Content-Encoding") or []]
    if any(encoding != "identity" for encoding in encodings):
        raise ProtocolError(f"a reply encoded as {printable(', '.join(encodings))[:60]}, which was not asked for")
    lengths = [length.strip() for length in headers.get_all("Content-Length") or []]
    if len(lengths) != 1 or not lengths[0].isascii() or not lengths[0].isdigit() or len(lengths[0]) > 18:
        raise ProtocolError(
            f"a reply must announce its length exactly once, not as {printable(', '.join(lengths))[:60] or 'nothing'}"
        )
    return int(lengths[0])


def _connected(address: Address, context: ssl.SSLContext | None, deadline: float) -> socket.socket:
    """Return a socket to the first address of the host that answers. The remaining time is shared out among the addresses."""
    addresses, failure = _resolve(address, deadline), OSError("no address")
    for place, (family, kind, protocol, _, target) in enumerate(addresses):
        left = (deadline - time.monotonic()) / (len(addresses) - place)
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
    """Return the host's addresses. The system's lookup has no time limit, so it runs in a thread that is abandoned when it takes
    too long."""
    try:
        ipaddress.ip_address(address.host)
        return _addresses(address)
    except ValueError:
        pass
    results: list[list[tuple[Any, ...]] | Exception] = []

    def ask() -> None:
        try:
            results.append(_addresses(address))
        except (OSError, UnicodeError) as error:
            results.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(max(deadline - time.monotonic(), 0))
    if not results:
        raise TimeoutError(f"the address of '{address.host}' was not found within {CONNECT_S:g} s")
    if isinstance(results[0], Exception):
        raise results[0] if isinstance(results[0], OSError) else OSError(f"'{address.host}' is not the name of a host")
    return results[0]


def _addresses(address: Address) -> list[tuple[Any, ...]]:
    return list(socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM))


def _set_options(plain: socket.socket) -> None:
    """Make the socket send small messages at once, and notice a host that does not answer any more."""
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            plain.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
