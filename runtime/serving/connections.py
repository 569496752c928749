"""Limits on connections: how many may be open, how long each may be silent, and which one is closed when there are too many.

The protocol extends uvicorn's own for HTTP/1.1 with h11, which limits only the time between two requests.
"""

from __future__ import annotations

import asyncio
import fcntl
import select
import socket
import struct
import termios
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from hecompile.runtime.serving.client_identity import client_id_of
from hecompile.runtime.serving.limits import Limits

__all__ = ["Connections", "GuardedProtocol", "protocol_of"]

HEADER_BYTES = 16 << 10
_SWEEP_S = 0.5
_STALLED_S = 1.0  # after so long below the least rate, a connection may be closed for another
_UNWANTED_BYTES, _UNWANTED_S = (
    1 << 20,
    2.0,
)  # bytes and seconds for reading a body after its reply was sent, so that its sender reads the reply
_FREE_CHUNKS, _CHUNK_BYTES = 256, 1024  # beyond so many chunks, the chunks of a body must have so many bytes on average
_HANG_UP = getattr(select, "POLLRDHUP", select.POLLHUP)
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 2\r\nConnection: close\r\n"
    b'Content-Length: 34\r\n\r\n{"error": "too many connections"}\n'
)


class Connections:
    """All open connections of a server. Those that exceed a limit are closed twice per second."""

    def __init__(self, limits: Limits, proxies: Collection[str] = (), closed: Callable[[str], None] = lambda reason: None) -> None:
        """Start without connections.

        Args:
            proxies: addresses whose connections belong to many clients.
            closed: called with the reason when a limit closes a connection.
        """
        self._limits, self._closed = limits, closed
        self._proxies = frozenset(client_id_of((proxy, 0)) for proxy in proxies)
        self._open: set[GuardedProtocol] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: GuardedProtocol) -> bool:
        """Add a new connection. If there are too many, idle ones are closed for it; if all are busy, it is refused and False is
        returned."""
        if len(self._open) >= self._limits.connections and not self._make_room():
            self._closed("full")
            return False
        self._open.add(connection)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)
        return True

    def forget(self, connection: GuardedProtocol) -> None:
        """Remove a connection that was closed."""
        self._open.discard(connection)

    def close_unfinished(self) -> None:
        """Close the connections whose request has not arrived completely."""
        for connection in list(self._open):
            if connection.arriving:
                self.end(connection, "stopping")

    def end(self, connection: GuardedProtocol, reason: str) -> None:
        """Close a connection at once and count the reason. A reply that the client has not read is discarded."""
        self._closed(reason)
        self._open.discard(connection)
        connection.abort()

    def _make_room(self) -> bool:
        """Close some idle or slow connections: those of the client with most of them first, then those that are idle longest.

        Returns:
            Whether there were any. Several are closed at once, since looking at all connections takes a while.
        """
        now = time.monotonic()
        idle = [connection for connection in self._open if connection.expendable(now)]
        held = Counter(connection.client_id for connection in self._open if connection.client_id not in self._proxies)
        idle.sort(key=lambda connection: (-held[connection.client_id], connection.since))
        for connection in idle[: max(1, self._limits.connections // 64)]:
            self.end(connection, "pressed")
        return bool(idle)

    def _sweep(self) -> None:
        """Close all connections that exceed a limit."""
        now = time.monotonic()
        for connection in list(self._open):
            reason = connection.overdue(now)
            if reason:
                self.end(connection, reason)
        self._timer = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep) if self._open else None


class _Parser(h11.Connection):
    """h11's parser, which also refuses bodies in tiny chunks: parsing a chunk costs as much as a kilobyte of data."""

    _chunks = _bytes = 0

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_start
            self._bytes += len(event.data)
            if self._chunks > _FREE_CHUNKS + self._bytes // _CHUNK_BYTES:
                raise h11.RemoteProtocolError("the body has too many tiny chunks")
        return event


class GuardedProtocol(H11Protocol):
    """A connection of uvicorn with limits from its first byte to its last."""

    registry: Connections
    limits: Limits

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = _Parser(h11.SERVER, HEADER_BYTES)
        self.client_id = ""
        self.since = time.monotonic()  # when the wait began for a first byte, a header, a body or another request
        self._came = 0  # bytes received since then
        self._used = self._header = False  # whether a request was answered; whether the header of one has begun
        self._unread: tuple[float, int] | None = None  # a time, and how many bytes of replies the client had not read then

    @property
    def silent(self) -> bool:
        """Whether no request is under way: none has come, or its header is not complete."""
        return self.cycle is None or bool(self.cycle.response_complete)

    @property
    def arriving(self) -> bool:
        """Whether the body of a request is arriving, and the server reads it."""
        return not self.silent and bool(self.cycle.more_body) and not self.flow.read_paused

    @property
    def _unwanted(self) -> bool:
        """Whether the body of a request that was already answered is still arriving."""
        return self.silent and self.cycle is not None and self.conn.their_state is h11.SEND_BODY

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.client_id = client_id_of(self.client)
        if not self.registry.admit(self):
            transport.write(_FULL)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.registry.forget(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._unwanted and self._came + len(data) > _UNWANTED_BYTES:
            self.registry.end(self, "unwanted")
            return
        awaited = self.silent
        if awaited and not self._header and not self._unwanted:
            self._header = True
            self._start()
        self._came += len(data)
        super().data_received(data)
        if awaited and not self.silent:
            self._header = False
            self._start()

    def send_400_response(self, msg: str) -> None:
        """Tell the client that its request is not HTTP, unless the request was answered already."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        self._used, self._header, self._unread = True, False, None
        self._start()
        super().on_response_complete()

    def _start(self) -> None:
        self.since, self._came = time.monotonic(), 0

    def abort(self) -> None:
        """Close at once. The operating system also discards what it has buffered of replies."""
        if self._unsent():
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def expendable(self, now: float) -> bool:
        """Return whether it may be closed for a new connection: it is idle, or its client sends or reads too slowly."""
        if self._unsent():
            return self._reads_slowly(now, _STALLED_S)
        return self.silent or (self.arriving and self._came < (now - self.since - _STALLED_S) * self.limits.least_rate)

    def overdue(self, now: float) -> str:
        """Return why the connection must be closed; an empty text if it need not."""
        if self._unsent():
            return "unread" if self._reads_slowly(now, self.limits.grace_s) else ""
        self._unread = None
        waited_s = now - self.since
        if not self.silent:
            return "gone" if self._hung_up() else ""
        if self._unwanted:
            return "unwanted" if waited_s > _UNWANTED_S else ""
        if self._header:
            return "header" if waited_s > self.limits.header_s else ""
        if self._used:
            return "idle" if waited_s > self.limits.idle_s else ""
        return "silent" if waited_s > self.limits.first_byte_s else ""

    def _reads_slowly(self, now: float, grace_s: float) -> bool:
        """Return whether the client reads a reply below the least rate, after `grace_s` seconds."""
        left = self._unsent()
        if self._unread is None or left > self._unread[1]:
            self._unread = (now, left)
        since, before = self._unread
        return before - left < (now - since - grace_s) * self.limits.least_rate

    def _unsent(self) -> int:
        """Return how many bytes of replies have not reached the client, in this process and in the operating system."""
        if not self._used:
            return 0
        try:
            (system,) = struct.unpack("i", fcntl.ioctl(self.transport.get_extra_info("socket"), termios.TIOCOUTQ, bytes(4)))
        except (OSError, ValueError):  # closed at this moment
            system = 0
        return int(system) + self.transport.get_write_buffer_size()

    def _hung_up(self) -> bool:
        """Return whether the client has closed a connection that is not being read, because it sent more than its request."""
        if self.cycle.more_body or not self.flow.read_paused:
            return False
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), _HANG_UP)
        return bool(poll.poll(0))


def protocol_of(connections: Connections, limits: Limits) -> type[GuardedProtocol]:
    """Return the protocol class of one server."""
    return type("Protocol", (GuardedProtocol,), {"registry": connections, "limits": limits})
