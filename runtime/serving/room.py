"""Room for the bytes of requests that arrive or wait: bounded in all and by address, taken from those that make no progress."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from hecompile.runtime.serving.refusals import RefusalError

__all__ = ["Hold", "Room"]

STALLED_S = 1.0  # without a byte, after which others may have the room


@dataclass(eq=False)
class Hold:
    """Room that a request has, from its first byte until its evaluation has begun."""

    owner: str
    size: int
    lost: asyncio.Future[None]
    progressed: float = field(default_factory=time.monotonic)
    arriving: bool = True


class Room:
    """Bytes for all requests together; one address may have half of them."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._holds: set[Hold] = set()
        self._by_owner: Counter[str] = Counter()
        self.taken = 0

    def take(self, owner: str, size: int) -> Hold:
        """Room for a request of `size` bytes.

        Raises:
            RefusalError: 503 if there is none, also not by ending requests that make no progress.
        """
        while self._by_owner[owner] + size > self._total // 2:
            if not self._evict(owner):
                raise RefusalError("requests from this address take all the room that one may have", 503, "bodies")
        while self.taken + size > self._total:
            if not self._evict(None):
                raise RefusalError("requests that arrive or wait take all the room", 503, "bodies")
        hold = Hold(owner, size, asyncio.get_running_loop().create_future())
        self._holds.add(hold)
        self._by_owner[owner] += size
        self.taken += size
        return hold

    def give_back(self, hold: Hold) -> None:
        """The room is free again; may be called twice."""
        if hold in self._holds:
            self._holds.discard(hold)
            self.taken -= hold.size
            self._by_owner[hold.owner] -= hold.size
            if not self._by_owner[hold.owner]:
                del self._by_owner[hold.owner]

    def _evict(self, owner: str | None) -> bool:
        """End the request that has made no progress for longest, of the address that takes most; whether there was one."""
        latest = time.monotonic() - STALLED_S
        stalled = [
            hold for hold in self._holds if hold.arriving and hold.progressed < latest and (owner is None or hold.owner == owner)
        ]
        if not stalled:
            return False
        worst = min(stalled, key=lambda hold: (-self._by_owner[hold.owner], hold.progressed))
        self.give_back(worst)
        worst.lost.set_result(None)
        return True
