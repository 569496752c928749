"""Requests over HTTP to a server that may be hostile, busy or unreachable: each ends within a total time."""

from __future__ import annotations

import logging
import os
import random
import socket
import ssl
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote

from hecompile.buffers import Buffer, total_bytes
from hecompile.errors import CompileError, ProtocolError
from hecompile.runtime.greeting import GREETING_LIMIT, Greeting, parse_greeting
from hecompile.runtime.transports.access import Access
from hecompile.runtime.transports.address import parse_url
from hecompile.runtime.transports.base import ServerGoneError, Transport
from hecompile.runtime.transports.connection import Connection, Refusal, printable
from hecompile.runtime.transports.stream import OutOfTimeError
from hecompile.runtime.wire import SESSION_DIGITS, TAG_HEADER, new_tag

__all__ = ["HttpTransport"]

LOG = logging.getLogger(__name__)

BUSY = (408, 429, 502, 503, 504)  # statuses after which the same request may be sent again
LEAST_PAUSE_S, MOST_PAUSE_S = 0.1, 5.0
MOST_RETRY_AFTER_S = 60.0
GREETING_S, GREETING_RETRY_S = 20.0, 10.0  # shorter than for requests, so that loading soon tells that a server is down
FAREWELL_S = 5.0  # for closing a session; a server that does not answer forgets keys by itself
UPLOAD_RATE = 1 << 20  # bytes per second expected while evaluation keys, which may be gigabytes, are sent
_IDLE = 8  # idle connections that are kept for reuse


class HttpTransport(Transport):
    """HTTP/1.1 with connections that are reused. A retry sends the same bytes again: a second encryption would need new randomness.

    Replies must have exactly the expected length. Redirects, cookies, content encodings and proxies of the environment are not
    used. Each request has a connection to itself, so several threads, and after a fork both processes, may use it.
    """

    def __init__(self, url: str, timeout_s: float = 120.0, retry_s: float = 60.0, access: Access | None = None) -> None:
        """Store the address; connections are opened when they are needed.

        Args:
            timeout_s: seconds for one request with all its attempts, pauses and transfers. Evaluation keys have a second more per
                MiB.
            retry_s: no attempt begins more than this many seconds after the first one failed.
            access: certificates to trust, and credentials to send.

        Raises:
            CompileError: for a malformed URL, certificates that cannot be used, or credentials on plain HTTP to another machine.
        """
        if not (0 < timeout_s < float("inf") and 0 <= retry_s < float("inf")):
            raise CompileError(f"timeout_s {timeout_s} and retry_s {retry_s}: both must be finite, and timeout_s above zero")
        access = access or Access()
        self._address = parse_url(url)
        self._timeout_s, self._retry_s = timeout_s, retry_s
        self._headers = {"Host": self._address.authority, **access.sent(self._address)}
        self._context = access.context(self._address)
        self._idle, self._process = deque[Connection](), os.getpid()
        self._random = random.SystemRandom()
        self._reached = False  # whether the server ever answered: then a failed lookup of its name is retried
        self.url = str(self._address)
        if not self._address.secure and not self._address.loopback:
            LOG.warning(
                "%s: plain HTTP to another machine: everybody on the way sees which artifact is used and the sizes and times of "
                "all messages, and can pose as the server; use https://",
                self.url,
            )

    def __repr__(self) -> str:
        return f"HttpTransport('{self.url}')"

    def send(self, digest: str, region: str, body: Sequence[Buffer], reply: Buffer) -> None:
        target = memoryview(reply).cast("B")
        self._request(
            "POST", f"/v1/artifacts/{digest}/regions/{quote(region, safe='', errors='replace')}", body, target, f"region '{region}'"
        )

    def open_session(self, digest: str, body: Sequence[Buffer]) -> str:
        reply, timeout_s = bytearray(SESSION_DIGITS), self._timeout_s + total_bytes(body) / UPLOAD_RATE
        path, target = f"/v1/artifacts/{digest}/sessions", memoryview(reply)
        self._request("POST", path, body, target, "the evaluation keys", timeout_s=timeout_s)
        identifier = reply.decode("ascii", "replace")
        if not identifier.isascii() or not identifier.isalnum():
            raise ProtocolError(f"{self.url} replied with {len(identifier)} characters that are not the identifier of a session")
        return identifier

    def close_session(self, digest: str, identifier: str) -> None:
        path, nothing = f"/v1/artifacts/{digest}/sessions/{identifier}", memoryview(bytearray())
        self._request("DELETE", path, [], nothing, "to close a session", timeout_s=min(FAREWELL_S, self._timeout_s), retry_s=0.0)

    def greet(self, digest: str) -> Greeting | None:
        reply, timeout_s, retry_s = bytearray(GREETING_LIMIT), min(GREETING_S, self._timeout_s), GREETING_RETRY_S
        try:
            path, target = f"/v1/artifacts/{digest}", memoryview(reply)
            size = self._request("GET", path, [], target, "a greeting", timeout_s=timeout_s, retry_s=retry_s, exact=False)
        except ProtocolError as error:
            if error.status in (404, 405):
                help = "it is not a hecompile server, or it is older than this client: use the same version on both sides"
                raise ProtocolError(f"{error}; {help}", status=error.status) from error
            raise
        return parse_greeting(bytes(reply[:size]), self.url)

    def _request(
        self, method: str, path: str, body: Sequence[Buffer], reply: memoryview, what: str,
        *, timeout_s: float | None = None, retry_s: float | None = None, exact: bool = True,
    ) -> int:  # fmt: skip
        """Send a request, again while the server is busy or unreachable, until `timeout_s`. Fills `reply` and returns the reply's
        length."""
        started = time.monotonic()
        timeout_s, retry_s = timeout_s or self._timeout_s, self._retry_s if retry_s is None else min(retry_s, self._retry_s)
        deadline, headers = started + timeout_s, self._headers | ({TAG_HEADER: new_tag()} if method == "POST" else {})
        last, attempts, reason = float("inf"), 0, ""
        while True:
            attempts, least_s = attempts + 1, 0.0
            try:
                return self._attempt(method, path, headers, body, reply, exact, deadline)
            except Refusal as refusal:
                if refusal.status not in BUSY:
                    raise ProtocolError(f"{self.url} refuses {what}: {refusal}", status=refusal.status) from None
                reason, least_s = str(refusal), _seconds(refusal.retry_after)
            except ProtocolError as error:
                raise ProtocolError(f"{self.url}, {what}: {error}", status=error.status) from None
            except OutOfTimeError:
                raise self._gone(f"no answer within {timeout_s:g} s{reason and ', before that '}{reason}", attempts) from None
            except OSError as error:
                reason = self._reason(error)
            now = time.monotonic()
            last = min(last, now + retry_s, deadline)
            if last - now <= least_s:
                raise self._gone(reason, attempts)
            spread_s = self._random.uniform(0.0, min(MOST_PAUSE_S, LEAST_PAUSE_S * 2 ** min(attempts - 1, 10)))
            time.sleep(min(least_s + spread_s, last - now))  # random, so that clients do not come all at once

    def _gone(self, reason: str, attempts: int) -> ServerGoneError:
        """Return the error for a server that does not answer."""
        times = "one attempt" if attempts == 1 else f"{attempts} attempts"
        return ServerGoneError(f"{self.url} does not answer, after {times}: {reason}", status=503)

    def _reason(self, error: OSError) -> str:
        """Return why a connection failed. Raises `ProtocolError` where trying again would not help."""
        reason = f"{type(error).__name__}: {printable(error.strerror or str(error))}"
        if isinstance(error, ssl.SSLCertVerificationError):
            help = "name the certificates to trust with verify=, --ca or HECOMPILE_CA"
            raise ProtocolError(f"{self.url}: {printable(error.verify_message)}: {help}", status=503) from None
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            raise ProtocolError(f"{self.url} and this client cannot agree on TLS: {reason}", status=503) from None
        if isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN and not self._reached:
            raise self._gone(reason, 1) from None
        return reason

    def _attempt(
        self, method: str, path: str, headers: Mapping[str, str], body: Sequence[Buffer], reply: memoryview, exact: bool,
        deadline: float,
    ) -> int:  # fmt: skip
        """Send a request once, and immediately once more if a reused connection turns out to be closed."""
        while True:
            connection = self._connection(deadline)
            known = connection.used
            try:
                size, usable = connection.exchange(method, self._address.prefix + path, headers, body, reply, exact, deadline)
            except BaseException as error:
                connection.drop()
                if not (known and isinstance(error, OSError) and not connection.answered):
                    raise
            else:
                self._keep(connection, usable)
                self._reached = True
                return size

    def _connection(self, deadline: float) -> Connection:
        """Return a connection that no other request uses. Connections of a parent process are not reused."""
        if os.getpid() != self._process:
            self.close()
            self._process = os.getpid()
        while (connection := self._pop_idle()) is not None:
            if connection.fresh:
                return connection
            connection.drop()
        if time.monotonic() >= deadline:
            raise OutOfTimeError
        return Connection(self._address, self._context, deadline)

    def _pop_idle(self) -> Connection | None:
        """Remove an idle connection from the kept ones and return it; None if there is none."""
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _keep(self, connection: Connection, usable: bool) -> None:
        """Keep a connection for the next request, if it is usable and not too many are kept."""
        if usable and len(self._idle) < _IDLE:
            self._idle.append(connection)
        else:
            connection.drop()

    def close(self) -> None:
        while (connection := self._pop_idle()) is not None:
            connection.drop()


def _seconds(retry_after: str | None) -> float:
    """Return the seconds of a `Retry-After` header, which is a number or a date; 0 if it is neither."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MOST_RETRY_AFTER_S)
    try:
        when = parsedate_to_datetime(text[:60])
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return min(max((when - datetime.now(UTC)).total_seconds(), 0.0), MOST_RETRY_AFTER_S)
    except (ValueError, TypeError, OverflowError, IndexError):
        return 0.0
