"""The body of a request while it arrives: limited in bytes and time, with a least rate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from hecompile.runtime.serving.body_memory import BodyReservation
from hecompile.runtime.serving.limits import Limits
from hecompile.runtime.serving.refusals import GoneError, RefusalError

__all__ = ["Incoming"]

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_DRAINED_BYTES, _DRAINED_S = (
    1 << 20,
    2.0,
)  # bytes and seconds for reading on after a refusal, so that the sender of a short body reads the reason
_LINGERED_BYTES = 16 << 20  # bytes that are read after a refusal was sent, within the same seconds
_MOST_AHEAD_S = 10.0  # longest pause that a sender can earn by sending fast


class Incoming:
    """The body of one request.

    Args:
        receive: the ASGI channel.
        announced: bytes by `Content-Length`; None for a chunked body.
        counted: called with the number of bytes of every piece.
        invited: whether the client sends the body only after an invitation (`Expect: 100-continue`), which `receive` sends.
    """

    def __init__(
        self, receive: Receive, announced: int | None, limits: Limits, counted: Callable[[int], None], invited: bool = False
    ) -> None:
        self._receive, self.announced, self._limits, self._counted = receive, announced, limits, counted
        self.complete = False
        self._gone = False
        self._held_back = invited  # the client sends nothing before `receive` is called

    async def read(self, limit: int, reservation: BodyReservation | None = None, keep: bool = True) -> bytearray:
        """Read the whole body and return it, or an empty one unless `keep`.

        Raises:
            RefusalError: 413 beyond `limit` bytes, at once if they are announced; 408 if it arrives too slowly; 503 if others
                needed its reserved memory while it made no progress.
            GoneError: if the client closes the connection first.
        """
        if self.announced is not None and self.announced > limit:
            raise RefusalError(f"a request may have {limit} bytes", 413, "large")
        body, length, deadline = bytearray(), 0, time.monotonic() + self._limits.grace_s
        while not self.complete:
            piece = await self._piece(deadline, reservation)
            length += len(piece)
            if length > limit:
                raise RefusalError(f"a request may have {limit} bytes", 413, "large")
            if keep:
                body += piece
            now = time.monotonic()
            deadline = min(max(deadline, now) + len(piece) / self._limits.least_rate, now + _MOST_AHEAD_S)
            if reservation is not None:
                reservation.progressed = now
        return body

    async def drain(self) -> None:
        """Read on a little before a refusal, so that the sender of a short body finishes sending and reads it. Raises nothing."""
        if self.announced is None or self.announced <= _DRAINED_BYTES:
            await self._discard(_DRAINED_BYTES)

    async def linger(self) -> None:
        """Read on a little after a refusal: closing a connection with unread bytes would discard the refusal."""
        await self._discard(_LINGERED_BYTES)

    async def _discard(self, left: int) -> None:
        """Read and throw away up to `left` bytes, for at most `_DRAINED_S` seconds."""
        if self._held_back:
            return
        deadline = time.monotonic() + _DRAINED_S
        with suppress(RefusalError, GoneError):
            while not self.complete and left > 0:
                left -= len(await self._piece(deadline, None))

    async def gone(self) -> None:
        """Return when the client has closed its connection. Called after the body has arrived."""
        while not self._gone:
            message = await self._receive()
            self._gone = message["type"] == "http.disconnect"

    async def _piece(self, deadline: float, reservation: BodyReservation | None) -> bytes:
        """Return the next piece of the body, waiting until `deadline` at most."""
        self._held_back = False
        coming = asyncio.ensure_future(self._receive())
        waited: set[asyncio.Future[Any]] = {coming} if reservation is None else {coming, reservation.revoked}
        try:
            await asyncio.wait(waited, timeout=max(deadline - time.monotonic(), 0), return_when=asyncio.FIRST_COMPLETED)
            if reservation is not None and reservation.revoked.done():
                raise RefusalError("other requests need the memory that this slow request occupies", 503, "bodies")
            if not coming.done():
                rate = self._limits.least_rate >> 10
                raise RefusalError(f"the request arrives too slowly: at least {rate} KiB/s are needed", 408, "slow")
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
