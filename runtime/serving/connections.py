"""Connections: how many may be open, how long each may be silent, and which one is closed when there are too many.

The protocol is uvicorn's own for HTTP/1.1 with h11, which knows a limit between two requests only.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from hecompile.runtime.serving.limits import Limits
from hecompile.runtime.serving.owners import owner_of

__all__ = ["Connections", "GuardedProtocol", "protocol_of"]

HEADER_BYTES = 16 << 10
_SWEEP_S = 0.5
_STALLED_S = 1.0  # without a byte of a body, after which a connection may be closed for another
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 2\r\nConnection: close\r\n"
    b'Content-Length: 34\r\n\r\n{"error": "too many connections"}\n'
)


class Connections:
    """All open connections of a server. Overdue ones are closed twice a second."""

    def __init__(self, limits: Limits, proxies: Collection[str] = (), closed: Callable[[str], None] = lambda reason: None) -> None:
        """`proxies`: addresses whose connections belong to many clients; `closed` is told why one was closed by a limit."""
        self._limits, self._proxies, self._closed = limits, frozenset(proxies), closed
        self._open: set[GuardedProtocol] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: GuardedProtocol) -> bool:
        """Count a new connection; beyond the limit another one is closed for it, or, where all are at work, this one is refused."""
        while len(self._open) >= self._limits.connections:
            if not self._close_idle():
                self._closed("full")
                return False
        self._open.add(connection)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)
        return True

    def forget(self, connection: GuardedProtocol) -> None:
        """It was closed."""
        self._open.discard(connection)

    def close_unfinished(self) -> None:
        """Close those whose request has not come whole."""
        for connection in list(self._open):
            if connection.arriving:
                self._end(connection, "stopping")

    def _close_idle(self) -> bool:
        """Close the connection that is idle longest, of the address that has most of them; whether there is one."""
        now = time.monotonic()
        idle = [each for each in self._open if each.silent or (each.arriving and each.heard < now - _STALLED_S)]
        if not idle:
            return False
        by_owner = Counter(each.owner for each in self._open if each.owner not in self._proxies)
        self._end(min(idle, key=lambda each: (-by_owner[each.owner], each.heard)), "pressed")
        return True

    def _end(self, connection: GuardedProtocol, reason: str) -> None:
        self._closed(reason)
        self._open.discard(connection)
        if connection.arriving or reason == "unread":
            connection.transport.abort()
        else:
            connection.transport.close()

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in list(self._open):
            reason = connection.overdue(now)
            if reason:
                self._end(connection, reason)
        self._timer = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep) if self._open else None


class GuardedProtocol(H11Protocol):
    """One connection of uvicorn's, with limits from its first byte to its last."""

    registry: Connections
    limits: Limits

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heard = self._started = time.monotonic()  # the last byte, and the beginning of what is awaited
        self.owner = ""
        self._used = self._header = False  # whether a request was answered, and whether one's header has begun
        self._unread: tuple[float, int] | None = None  # when, and how many bytes of replies the client had still to read

    @property
    def silent(self) -> bool:
        """Whether no request is under way: none has come, or its header is not complete."""
        return self.cycle is None or bool(self.cycle.response_complete)

    @property
    def arriving(self) -> bool:
        """Whether the body of a request is on its way and read on."""
        return not self.silent and bool(self.cycle.more_body) and not self.flow.read_paused

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.owner = owner_of(self.client)
        if not self.registry.admit(self):
            transport.write(_FULL)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.registry.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.heard = time.monotonic()
        if self.silent and not self._header:
            self._header, self._started = True, self.heard
        super().data_received(data)
        if not self.silent:
            self._header = False

    def on_response_complete(self) -> None:
        self._used, self._header, self._started = True, False, time.monotonic()
        self.heard = self._started
        super().on_response_complete()

    def overdue(self, now: float) -> str:
        """Why the connection is to be closed; empty if it is not."""
        left = self.transport.get_write_buffer_size()
        if left:
            return self._slow_reader(now, left)
        self._unread = None
        if not self.silent:
            return ""
        if self._header:
            return "header" if now - self._started > self.limits.header_s else ""
        if self._used:
            return "idle" if now - self._started > self.limits.idle_s else ""
        return "silent" if now - self._started > self.limits.first_byte_s else ""

    def _slow_reader(self, now: float, left: int) -> str:
        """Replies must be read at the least rate, after the time of grace."""
        if self._unread is None or left > self._unread[1]:
            self._unread = (now, left)
        since, before = self._unread
        due = (now - since - self.limits.grace_s) * self.limits.least_rate
        return "unread" if before - left < due else ""


def protocol_of(connections: Connections, limits: Limits) -> type[GuardedProtocol]:
    """The protocol class of one server."""
    return type("Protocol", (GuardedProtocol,), {"registry": connections, "limits": limits})
