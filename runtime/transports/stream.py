"""A socket whose reads and writes end by a deadline, and on which a body must keep a minimal rate."""

from __future__ import annotations

import io
import socket
import ssl
import time
from collections.abc import Sequence

from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError

__all__ = ["GRACE_S", "HEAD_LIMIT", "LEAST_RATE", "OutOfTimeError", "Stream"]

HEAD_LIMIT = 16_384  # bytes of status line and headers, including those of every `100 Continue`
LEAST_RATE = 16_384  # bytes of a body per second, on average
GRACE_S = 10.0  # seconds before the least rate is required
_JOINED = 65_536  # smaller buffers are joined, since a packet each would cost more than a copy
_READ = 4096


class OutOfTimeError(Exception):
    """Raised when the deadline of a request has passed."""


class Stream:
    """The bytes of one connection. It takes the place of the socket in `http.client`, which reads and writes heads through it."""

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self._socket = connected
        self._held, self._waiting = bytearray(), bytearray()  # received but not read; not sent yet
        self.start(deadline)

    def start(self, deadline: float) -> None:
        """Start a request whose reply must be complete by `deadline`, a time of `time.monotonic`."""
        self._deadline, self._head_left = deadline, HEAD_LIMIT
        self._started, self._moved = 0.0, 0  # when the current body started, and how many of its bytes were sent or received
        self.answered = False  # whether any byte of a reply has arrived

    def unexpected(self) -> bytes | None:
        """Return bytes that arrived without a request: empty bytes if the connection has ended, None if nothing has arrived."""
        if self._held:
            return bytes(self._held)
        try:
            self._socket.settimeout(0)
            return self._socket.recv(1)  # reading it loses nothing: the connection will not be used again
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except OSError:
            return b""

    def _wait(self, body: bool) -> None:
        """Set the socket's timeout to the time that is left. Raises `OutOfTimeError`, or `ProtocolError` for a body below the least
        rate."""
        now = time.monotonic()
        left = self._deadline - now
        if left <= 0:
            raise OutOfTimeError
        if body:
            allowed_s = self._started + GRACE_S + self._moved / LEAST_RATE - now
            if allowed_s <= 0:
                raise ProtocolError(
                    f"the connection is slower than {LEAST_RATE >> 10} KiB/s: {self._moved} bytes in {now - self._started:.0f} s"
                )
            left = min(left, allowed_s)
        self._socket.settimeout(left)

    def send_body(self, parts: Sequence[Buffer]) -> None:
        """Send the head that is waiting, then all parts in order. Raises `OSError` if the connection ends."""
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
        """Keep the head that `http.client` sends, so that it leaves together with the first bytes of the body."""
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
                continue  # `_wait` raises the error of the limit that was reached
            self._moved += count
            view = view[count:]

    def makefile(self, mode: str) -> io.BufferedIOBase:
        """Return the file from which `http.client` reads the head of a reply."""
        return _Head(self)

    def close(self) -> None:
        """Do nothing: `http.client` calls this after the head of a connection's last reply, whose body is still to be read."""

    def readline(self) -> bytes:
        """Return a line of the head. Raises `ProtocolError` beyond `HEAD_LIMIT`, and `ConnectionError` if the connection ends."""
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
        """Read a body of the length of `view` into it. Raises `ConnectionError` if the connection ends first."""
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
        """Receive at least one byte and return how many were received."""
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
        """Close the connection in this process. Nothing is sent, so a forked process can go on using its copy."""
        self._socket.close()


class _Head(io.BufferedIOBase):
    """The head of a reply as a file of lines."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def readline(self, limit: int | None = -1, /) -> bytes:
        return self._stream.readline()
