"""Limits the memory of request bodies that arrive or wait, in all and per client. Requests that make no progress lose theirs."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from hecompile.runtime.serving.refusals import RefusalError

__all__ = ["BodyMemory", "BodyReservation"]

STALLED_S = 1.0  # after so many seconds without a byte, others may take the memory of a request


@dataclass(eq=False)
class BodyReservation:
    """Memory that is reserved for one request, from its first byte until its evaluation ends. `revoked` is set when others need
    it."""

    client_id: str
    size: int
    revoked: asyncio.Future[None]
    progressed: float = field(default_factory=time.monotonic)
    arriving: bool = True


class BodyMemory:
    """The memory for the bodies of all requests, in bytes. One client may have half of it."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._reservations: set[BodyReservation] = set()
        self._by_client: Counter[str] = Counter()
        self.reserved_bytes = 0

    def reserve(self, client_id: str, size: int) -> BodyReservation:
        """Reserve memory for a request of `size` bytes.

        Raises:
            RefusalError: 503 if there is not enough, even after ending requests that make no progress.
        """
        while self._by_client[client_id] + size > self._total // 2:
            if not self._evict(client_id):
                raise RefusalError("requests of this client already use all the memory that one client may have", 503, "bodies")
        while self.reserved_bytes + size > self._total:
            if not self._evict(None):
                raise RefusalError("requests that arrive or wait use all the memory for them", 503, "bodies")
        reservation = BodyReservation(client_id, size, asyncio.get_running_loop().create_future())
        self._reservations.add(reservation)
        self._by_client[client_id] += size
        self.reserved_bytes += size
        return reservation

    def release(self, reservation: BodyReservation) -> None:
        """Release the memory of a request. Calling it again has no effect."""
        if reservation in self._reservations:
            self._reservations.discard(reservation)
            self.reserved_bytes -= reservation.size
            self._by_client[reservation.client_id] -= reservation.size
            if not self._by_client[reservation.client_id]:
                del self._by_client[reservation.client_id]

    def _evict(self, client_id: str | None) -> bool:
        """End the stalled request of the client that uses most memory, the longest stalled first. Returns whether there was one."""
        latest = time.monotonic() - STALLED_S
        stalled = [
            reservation
            for reservation in self._reservations
            if reservation.arriving
            and reservation.progressed < latest
            and (client_id is None or reservation.client_id == client_id)
        ]
        if not stalled:
            return False
        worst = min(stalled, key=lambda reservation: (-self._by_client[reservation.client_id], reservation.progressed))
        self.release(worst)
        worst.revoked.set_result(None)
        return True
