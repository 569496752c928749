"""Connections: how many may be open, how long each may be silent, and which one is closed when there are too many.

The protocol is uvicorn's own for HTTP/1.1 with h11, which knows a limit between two requests only.
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

from hecompile.runtime.serving.limits import Limits
from hecompile.runtime.serving.owners import owner_of

__all__ = ["Connections", "GuardedProtocol", "protocol_of"]

HEADER_BYTES = 16 << 10
_SWEEP_S = 0.5
_STALLED_S = 1.0  # below the least rate, after which a connection may be closed for another
_UNWANTED_BYTES, _UNWANTED_S = 1 << 20, 2.0  # of a body that are read after its answer, so that its sender reads the answer
_FREE_CHUNKS, _CHUNK_BYTES = 256, 1024  # beyond so many chunks, a body's chunks must have so many bytes on average
_HANG_UP = getattr(select, "POLLRDHUP", select.POLLHUP)
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 2\r\nConnection: close\r\n"
    b'Content-Length: 34\r\n\r\n{"error": "too many connections"}\n'
)


class Connections:
    """All open connections of a server. Overdue ones are closed twice a second."""

    def __init__(self, limits: Limits, proxies: Collection[str] = (), closed: Callable[[str], None] = lambda reason: None) -> None:
        """`proxies`: addresses whose connections belong to many clients; `closed` is told why one was closed by a limit."""
        self._limits, self._closed = limits, closed
        self._proxies = frozenset(owner_of((proxy, 0)) for proxy in proxies)
        self._open: set[GuardedProtocol] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: GuardedProtocol) -> bool:
        """Count a new connection; beyond the limit others are closed for it, or, where all are at work, this one is refused."""
        if len(self._open) >= self._limits.connections and not self._make_room():
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
                self.end(connection, "stopping")

    def end(self, connection: GuardedProtocol, reason: str) -> None:
        """Close a connection, and count why. Replies that its client does not read are thrown away."""
        self._closed(reason)
        self._open.discard(connection)
        connection.abort()

    def _make_room(self) -> bool:
        """Close some connections that are idle or slow, first those of the address that has most, then those that are so longest.

        Returns:
            whether there was one. Several are closed at once, since looking at all of them takes a while.
        """
        now = time.monotonic()
        idle = [connection for connection in self._open if connection.expendable(now)]
        held = Counter(connection.owner for connection in self._open if connection.owner not in self._proxies)
        idle.sort(key=lambda connection: (-held[connection.owner], connection.since))
        for connection in idle[: max(1, self._limits.connections // 64)]:
            self.end(connection, "pressed")
        return bool(idle)

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in list(self._open):
            reason = connection.overdue(now)
            if reason:
                self.end(connection, reason)
        self._timer = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep) if self._open else None


class _Parser(h11.Connection):
    """h11's, which refuses bodies in tiny chunks: taking each one apart costs as much as a kilobyte."""

    _chunks = _bytes = 0

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._chunks += event.chunk_start
            self._bytes += len(event.data)
            if self._chunks > _FREE_CHUNKS + self._bytes // _CHUNK_BYTES:
                raise h11.RemoteProtocolError("a body in tiny chunks")
        return event


class GuardedProtocol(H11Protocol):
    """One connection of uvicorn's, with limits from its first byte to its last."""

    registry: Connections
    limits: Limits

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = _Parser(h11.SERVER, HEADER_BYTES)
        self.owner = ""
        self.since = time.monotonic()  # the beginning of what is awaited: a first byte, a header, a body, another request
        self._came = 0  # bytes since then
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

    @property
    def _unwanted(self) -> bool:
        """Whether the body of a request is still on its way that was answered already."""
        return self.silent and self.cycle is not None and self.conn.their_state is h11.SEND_BODY

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
        """Tell the client that it does not speak HTTP, unless its request is answered already."""
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
        """Close at once. The system throws away, too, what it holds of replies."""
        if self._unsent():
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def expendable(self, now: float) -> bool:
        """Whether it may be closed for another one: it waits for its client, which sends and reads nothing, or slowly."""
        if self._unsent():
            return self._reads_slowly(now, _STALLED_S)
        return self.silent or (self.arriving and self._came < (now - self.since - _STALLED_S) * self.limits.least_rate)

    def overdue(self, now: float) -> str:
        """Why the connection is to be closed; empty if it is not."""
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
        """Whether a reply is read below the least rate, after a time of grace."""
        left = self._unsent()
        if self._unread is None or left > self._unread[1]:
            self._unread = (now, left)
        since, before = self._unread
        return before - left < (now - since - grace_s) * self.limits.least_rate

    def _unsent(self) -> int:
        """Bytes of replies that have not reached the client, in this process and in the system."""
        if not self._used:
            return 0
        try:
            (system,) = struct.unpack("i", fcntl.ioctl(self.transport.get_extra_info("socket"), termios.TIOCOUTQ, bytes(4)))
        except (OSError, ValueError):  # closed at this moment
            system = 0
        return int(system) + self.transport.get_write_buffer_size()

    def _hung_up(self) -> bool:
        """Whether the client has closed a connection on which nothing is read, because it sent more than its request."""
        if self.cycle.more_body or not self.flow.read_paused:
            return False
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), _HANG_UP)
        return bool(poll.poll(0))


def protocol_of(connections: Connections, limits: Limits) -> type[GuardedProtocol]:
    """The protocol class of one server."""
    return type("Protocol", (GuardedProtocol,), {"registry": connections, "limits": limits})
