"""A request's body on its way in: bounded in bytes and time, and never waited for longer than it makes progress."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from hecompile.runtime.serving.limits import Limits
from hecompile.runtime.serving.refusals import GoneError, RefusalError
from hecompile.runtime.serving.room import Hold

__all__ = ["Incoming"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_DRAINED_BYTES, _DRAINED_S = 1 << 20, 2.0  # that are read of a body that is refused, so that its sender reads the reason
_LINGERED_BYTES = 16 << 20  # that are read after a refusal was sent, in the same seconds
_MOST_AHEAD_S = 10.0  # that a fast sender may pause later on


class Incoming:
    """The body of one request.

    Args:
        receive: the ASGI channel.
        announced: bytes by `Content-Length`; None if it comes in chunks.
        counted: is told how many bytes came.
        invited: whether the client sends it only when it is told to (`Expect: 100-continue`), which `receive` does.
    """

    def __init__(
        self, receive: Receive, announced: int | None, limits: Limits, counted: Callable[[int], None], invited: bool = False
    ) -> None:
        self._receive, self.announced, self._limits, self._counted = receive, announced, limits, counted
        self.complete = False
        self._gone = False
        self._held_back = invited  # nothing is sent unless somebody reads

    async def read(self, limit: int, hold: Hold | None = None, keep: bool = True) -> bytearray:
        """The whole body; an empty one where it is not to be kept.

        Raises:
            RefusalError: 413 beyond `limit` bytes, at once if they are announced; 408 if it comes too slowly; 503 if its `hold`
                was taken by others while it made no progress.
            GoneError: if the client closes the connection before.
        """
        if self.announced is not None and self.announced > limit:
            raise RefusalError(f"a request may have {limit} bytes", 413, "large")
        body, length, deadline = bytearray(), 0, time.monotonic() + self._limits.grace_s
        while not self.complete:
            piece = await self._piece(deadline, hold)
            length += len(piece)
            if length > limit:
                raise RefusalError(f"a request may have {limit} bytes", 413, "large")
            if keep:
                body += piece
            now = time.monotonic()
            deadline = min(max(deadline, now) + len(piece) / self._limits.least_rate, now + _MOST_AHEAD_S)
            if hold is not None:
                hold.progressed = now
        return body

    async def drain(self) -> None:
        """Read on a little after a refusal, so that the sender of a short body gets to read it. Nothing is raised."""
        if self.announced is None or self.announced <= _DRAINED_BYTES:
            await self._discard(_DRAINED_BYTES)

    async def linger(self) -> None:
        """Read on a little once a refusal is sent: closing a connection that holds unread bytes would take back the refusal."""
        await self._discard(_LINGERED_BYTES)

    async def _discard(self, left: int) -> None:
        if self._held_back:
            return
        deadline = time.monotonic() + _DRAINED_S
        with suppress(RefusalError, GoneError):
            while not self.complete and left > 0:
                left -= len(await self._piece(deadline, None))

    async def gone(self) -> None:
        """Return when the client has closed its connection, after the body."""
        while not self._gone:
            message = await self._receive()
            self._gone = message["type"] == "http.disconnect"

    async def _piece(self, deadline: float, hold: Hold | None) -> bytes:
        self._held_back = False
        coming = asyncio.ensure_future(self._receive())
        waited: set[asyncio.Future[Any]] = {coming} if hold is None else {coming, hold.lost}
        try:
            await asyncio.wait(waited, timeout=max(deadline - time.monotonic(), 0), return_when=asyncio.FIRST_COMPLETED)
            if hold is not None and hold.lost.done():
                raise RefusalError("others need the room that this slow request takes", 503, "bodies")
            if not coming.done():
                rate = self._limits.least_rate >> 10
                raise RefusalError(f"the request comes too slowly: {rate} KiB/s are the least", 408, "slow")
        finally:
            coming.cancel()
        message = coming.result()
        if message["type"] == "http.disconnect":
            self._gone = True
            raise GoneError
        self.complete = not message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        self._counted(len(piece))
        return piece
