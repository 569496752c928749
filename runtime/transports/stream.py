"""A socket on which nothing lasts longer than it may: every read and write ends by a deadline and keeps a least rate."""

from __future__ import annotations

import io
import socket
import ssl
import time
from collections.abc import Sequence

from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError

__all__ = ["GRACE_S", "HEAD_LIMIT", "LEAST_RATE", "OutOfTimeError", "Stream"]

HEAD_LIMIT = 16_384  # bytes of status lines and headers, those of every `100 Continue` included
LEAST_RATE = 16_384  # bytes of a body per second, on average
GRACE_S = 10.0  # before that is asked for
_JOINED = 65_536  # smaller buffers are sent together: a packet each would cost more than a copy
_READ = 4096


class OutOfTimeError(Exception):
    """The deadline has passed."""


class Stream:
    """One connection's bytes. It stands where `http.client` expects a socket, whose calls for a head it answers."""

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self._socket = connected
        self._held, self._waiting = bytearray(), bytearray()  # received and not yet read; not yet sent
        self.start(deadline)

    def start(self, deadline: float) -> None:
        """Begin with a request: the time (of `time.monotonic`) by which its reply must have come."""
        self._deadline, self._head_left = deadline, HEAD_LIMIT
        self._started, self._moved = 0.0, 0  # of the body under way: when its first byte could move, and bytes so far
        self.answered = False  # whether any byte of a reply has come

    def unasked(self) -> bytes | None:
        """What has come that nobody asked for: some bytes, none at the connection's end, None while there is nothing."""
        if self._held:
            return bytes(self._held)
        try:
            self._socket.settimeout(0)
            return self._socket.recv(1)  # no loss: whatever it is, the connection will not be used again
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except OSError:
            return b""

    def _wait(self, body: bool) -> None:
        """Let the next call on the socket last as long as anything may."""
        now = time.monotonic()
        left = self._deadline - now
        if left <= 0:
            raise OutOfTimeError
        if body:
            patience = self._started + GRACE_S + self._moved / LEAST_RATE - now
            if patience <= 0:
                raise ProtocolError(f"slower than {LEAST_RATE >> 10} KiB/s: {self._moved} bytes in {now - self._started:.0f} s")
            left = min(left, patience)
        self._socket.settimeout(left)

    def send_body(self, parts: Sequence[Buffer]) -> None:
        """Send all parts in order, after the head that is waiting. Raises `OSError` if the connection ends."""
        self._started, self._moved = time.monotonic(), 0
        for part in parts:
            view = memoryview(part).cast("B")
            if len(view) < _JOINED:
                self._waiting += view
            if len(view) >= _JOINED or len(self._waiting) >= _JOINED:
                self._flush()
            if len(view) >= _JOINED:
                self._send(view)
        self._flush()

    def sendall(self, head: bytes) -> None:
        """What `http.client` sends: the head, which leaves together with the body's first bytes."""
        self._waiting += head

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, bytearray()
        self._send(memoryview(waiting))

    def _send(self, view: memoryview) -> None:
        while view:
            self._wait(body=True)
            try:
                count = self._socket.send(view)
            except TimeoutError:
                continue  # `_wait` says which limit it was
            self._moved += count
            view = view[count:]

    def makefile(self, mode: str) -> io.BufferedIOBase:
        """What `http.client` reads a reply's head from."""
        return _Head(self)

    def close(self) -> None:
        """What `http.client` calls when a reply is the connection's last one; its body is still to be read."""

    def readline(self) -> bytes:
        """A line of the head. Raises `ProtocolError` beyond the limit of heads, `ConnectionError` if the connection ends."""
        while (end := self._held.find(b"\n")) < 0:
            if not self._head_left:
                raise ProtocolError(f"status line and headers of more than {HEAD_LIMIT} bytes")
            piece = bytearray(min(_READ, self._head_left))
            count = self._receive(memoryview(piece), body=False)
            self._head_left -= count
            self._held += piece[:count]
        line = bytes(self._held[: end + 1])
        del self._held[: end + 1]
        return line

    def fill(self, view: memoryview) -> None:
        """Read a body of a known length. Raises `ConnectionError` if the connection ends before."""
        self._started, self._moved = time.monotonic(), 0
        count = min(len(self._held), len(view))
        view[:count] = self._held[:count]
        del self._held[:count]
        view = view[count:]
        while view:
            count = self._receive(view, body=True)
            self._moved += count
            view = view[count:]

    def _receive(self, view: memoryview, body: bool) -> int:
        """At least one byte."""
        while True:
            self._wait(body)
            try:
                count = self._socket.recv_into(view)
            except TimeoutError:
                continue
            if not count:
                raise ConnectionResetError("the connection was closed before the reply was complete")
            self.answered = True
            return count

    def drop(self) -> None:
        """Close this process's hold of the connection; nothing is sent, so another process may go on with it."""
        self._socket.close()


class _Head(io.BufferedIOBase):
    """The lines of a head, as a file."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def readline(self, limit: int | None = -1, /) -> bytes:
        return self._stream.readline()
