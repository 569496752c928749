"""Whose turn it is: as many evaluations at a time as there are places, and of those that wait first who has used least.

A server that evaluates by itself has one place, since an evaluation uses all cores; with workers each of them is one.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

from hecompile.runtime.serving.refusals import RefusalError

__all__ = ["FairQueue", "Turn"]

LEAST_PLACES = 4  # that may wait however long each takes
UNKNOWN_S = 0.5  # that a region is expected to take before it was measured
HALF_LIFE_S = 30.0  # after which half of what an owner has used is forgotten
_NEWEST = 0.3  # weight of the newest measurement
_FORGOTTEN_S = 0.001


@dataclass(eq=False)
class Turn:
    """A request's place in the queue, then its turn."""

    owner: str
    region: str
    ready: asyncio.Future[None] = field(repr=False)
    began: float = 0.0


class FairQueue:
    """Turns for evaluations. Of several owners the one that has used least is next; of one, who came first."""

    def __init__(self, longest_s: float, places: int = 1) -> None:
        """`longest_s`: seconds that a new request may have to wait. `places`: how many turns there are at a time."""
        self._longest_s, self._places = longest_s, places
        self._waiting: dict[str, deque[Turn]] = {}
        self._running: set[Turn] = set()
        self._seconds: dict[str, float] = {}
        self._used: dict[str, tuple[float, float]] = {}  # seconds, and when they were counted
        self._closed = False

    @property
    def length(self) -> int:
        """Requests that wait; those that are evaluated are not among them."""
        return sum(map(len, self._waiting.values()))

    @property
    def running(self) -> int:
        """Requests that have their turn."""
        return len(self._running)

    @property
    def expected_s(self) -> float:
        """Seconds that all which waits or runs will take, by what each region took before."""
        return (self._running_s + sum(map(self._waiting_s, self._waiting))) / self._places

    def expected_for(self, owner: str) -> float:
        """Seconds until a request of this owner that comes now has its turn, if nobody else comes.

        Those who have used less are served before it, until they have used as much.
        """
        now = time.monotonic()
        own = self._waiting_s(owner)
        until = self._use(owner, now) + own
        others = (min(self._waiting_s(each), max(0.0, until - self._use(each, now))) for each in self._waiting if each != owner)
        return (self._running_s + own + sum(others)) / self._places

    def judge(self, owner: str | None = None) -> None:
        """Raise `RefusalError` (503) if a request that comes now could not wait; without an owner, if not everybody's could."""
        if self._closed:
            raise RefusalError("this server is being stopped", 503, "stopping")
        expected = self.expected_s if owner is None else self.expected_for(owner)
        if self.length >= LEAST_PLACES and expected > self._longest_s:
            raise RefusalError(f"{self.length} requests are waiting already, about {expected:.0f} s", 503, "queue", expected / 2)

    async def turn(self, owner: str, region: str) -> Turn:
        """Wait for a turn, which must be given to `leave` afterwards.

        Raises:
            RefusalError: as `judge` does, also while waiting when the server is stopped.
        """
        self.judge(owner)
        turn = Turn(owner, region, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(owner, deque()).append(turn)
        self._next()
        try:
            await turn.ready
        except BaseException:
            self._remove(turn)
            if turn in self._running:  # it came at the same moment as the cancellation
                self._running.discard(turn)
                self._next()
            raise
        return turn

    def leave(self, turn: Turn, measured: bool = True) -> None:
        """The turn is over; `measured`: its seconds are what the region takes."""
        now = time.monotonic()
        seconds = now - turn.began
        if measured:
            before = self._seconds.get(turn.region)
            self._seconds[turn.region] = seconds if before is None else before + _NEWEST * (seconds - before)
        self._used[turn.owner] = (self._use(turn.owner, now) + seconds, now)
        for owner in [each for each in self._used if self._use(each, now) < _FORGOTTEN_S]:
            del self._used[owner]
        self._running.discard(turn)
        self._next()

    def close(self) -> None:
        """Refuse all that wait, and all that come."""
        self._closed = True
        for turns in self._waiting.values():
            for turn in turns:
                if not turn.ready.done():
                    turn.ready.set_exception(RefusalError("this server is being stopped", 503, "stopping"))

    @property
    def _running_s(self) -> float:
        now = time.monotonic()
        return sum(max(0.0, self._expected(turn.region) - (now - turn.began)) for turn in self._running)

    def _waiting_s(self, owner: str) -> float:
        return sum(self._expected(turn.region) for turn in self._waiting.get(owner, ()))

    def _expected(self, region: str) -> float:
        return self._seconds.get(region, UNKNOWN_S)

    def _use(self, owner: str, now: float) -> float:
        seconds, counted = self._used.get(owner, (0.0, now))
        return float(seconds * 0.5 ** ((now - counted) / HALF_LIFE_S))

    def _remove(self, turn: Turn) -> None:
        turns = self._waiting.get(turn.owner)
        if turns is not None and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._waiting[turn.owner]

    def _next(self) -> None:
        now = time.monotonic()
        while len(self._running) < self._places and self._waiting:
            turn = self._waiting[min(self._waiting, key=lambda owner: self._use(owner, now))][0]
            self._remove(turn)
            if not turn.ready.done():  # else it was cancelled, and not taken out yet
                self._running.add(turn)
                turn.began = now
                turn.ready.set_result(None)
