"""The queue of evaluations: which request is evaluated next. Of the clients that wait, the one that used least time recently is
first.

A server that evaluates by itself runs one evaluation at a time, since each uses all cores. With workers it runs one per worker.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field

from hecompile.runtime.serving.refusals import RefusalError

__all__ = ["FairQueue", "Turn"]

LEAST_PLACES = 4  # requests that may always wait, however long each takes
UNKNOWN_S = 0.5  # expected seconds of a region that was not measured yet
HALF_LIFE_S = 30.0  # after which half of the seconds that a client used are forgotten
_NEWEST = 0.3  # weight of the newest measurement of a region's seconds
_FORGOTTEN_S = 0.001  # a client that used less than this is not remembered


@dataclass(eq=False)
class Turn:
    """A request in the queue; `ready` is set when its evaluation may start."""

    client_id: str
    region: str
    ready: asyncio.Future[None] = field(repr=False)
    began: float = 0.0


class FairQueue:
    """Gives turns for evaluations. Among clients the one that used least time is next, among requests of one client the first that
    came."""

    def __init__(self, longest_s: float, places: int = 1) -> None:
        """Start empty. `longest_s` is the longest expected wait of a new request, `places` is how many evaluations run at the same
        time."""
        self._longest_s, self._places = longest_s, places
        self._waiting: dict[str, deque[Turn]] = {}
        self._running: set[Turn] = set()
        self._seconds: dict[str, float] = {}
        self._used: dict[str, tuple[float, float]] = {}  # seconds, and when they were counted
        self._closed = False

    @property
    def length(self) -> int:
        """How many requests wait, without those that are evaluated."""
        return sum(map(len, self._waiting.values()))

    @property
    def running(self) -> int:
        """How many requests are evaluated."""
        return len(self._running)

    @property
    def expected_s(self) -> float:
        """Expected seconds until all requests that wait or run are done, by how long each region took before."""
        return (self._running_s + sum(map(self._waiting_s, self._waiting))) / self._places

    def expected_for(self, client_id: str) -> float:
        """Return the expected seconds until a new request of this client is evaluated, if no other requests come.

        Clients that used less time are served first, until they have used as much.
        """
        now = time.monotonic()
        own = self._waiting_s(client_id)
        until = self._use(client_id, now) + own
        others = (
            min(self._waiting_s(other), max(0.0, until - self._use(other, now))) for other in self._waiting if other != client_id
        )
        return (self._running_s + own + sum(others)) / self._places

    def check(self, client_id: str | None = None) -> None:
        """Raise `RefusalError` (503) if a new request of this client would wait too long. None stands for a client that is new."""
        if self._closed:
            raise RefusalError("this server is being stopped", 503, "stopping")
        expected = self.expected_s if client_id is None else self.expected_for(client_id)
        if self.length >= LEAST_PLACES and expected > self._longest_s:
            raise RefusalError(
                f"{self.length} requests are waiting already, for about {expected:.0f} s", 503, "queue", expected / 2
            )

    async def turn(self, client_id: str, region: str) -> Turn:
        """Wait until a request may be evaluated. The turn must be given to `leave` afterwards.

        Raises:
            RefusalError: as `check` does, and while waiting if the server is stopped.
        """
        self.check(client_id)
        turn = Turn(client_id, region, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(client_id, deque()).append(turn)
        self._next()
        try:
            await turn.ready
        except BaseException:
            self._remove(turn)
            if turn in self._running:  # the turn came at the same moment as the cancellation
                self._running.discard(turn)
                self._next()
            raise
        return turn

    def leave(self, turn: Turn, measured: bool = True) -> None:
        """End a turn. `measured` is whether its seconds count as the time that the region takes."""
        now = time.monotonic()
        seconds = now - turn.began
        if measured:
            before = self._seconds.get(turn.region)
            self._seconds[turn.region] = seconds if before is None else before + _NEWEST * (seconds - before)
        self._used[turn.client_id] = (self._use(turn.client_id, now) + seconds, now)
        for client_id in [known for known in self._used if self._use(known, now) < _FORGOTTEN_S]:
            del self._used[client_id]
        self._running.discard(turn)
        self._next()

    def close(self) -> None:
        """Refuse all requests that wait, and all that come."""
        self._closed = True
        for turns in self._waiting.values():
            for turn in turns:
                if not turn.ready.done():
                    turn.ready.set_exception(RefusalError("this server is being stopped", 503, "stopping"))

    @property
    def _running_s(self) -> float:
        now = time.monotonic()
        return sum(max(0.0, self._expected(turn.region) - (now - turn.began)) for turn in self._running)

    def _waiting_s(self, client_id: str) -> float:
        return sum(self._expected(turn.region) for turn in self._waiting.get(client_id, ()))

    def _expected(self, region: str) -> float:
        return self._seconds.get(region, UNKNOWN_S)

    def _use(self, client_id: str, now: float) -> float:
        """Return the seconds that a client used, of which half are forgotten every `HALF_LIFE_S`."""
        seconds, counted = self._used.get(client_id, (0.0, now))
        return float(seconds * 0.5 ** ((now - counted) / HALF_LIFE_S))

    def _remove(self, turn: Turn) -> None:
        turns = self._waiting.get(turn.client_id)
        if turns is not None and turn in turns:
            turns.remove(turn)
            if not turns:
                del self._waiting[turn.client_id]

    def _next(self) -> None:
        """Give turns to waiting requests while there are free places."""
        now = time.monotonic()
        while len(self._running) < self._places and self._waiting:
            turn = self._waiting[min(self._waiting, key=lambda client_id: self._use(client_id, now))][0]
            self._remove(turn)
            if not turn.ready.done():  # otherwise it was cancelled, but is not removed yet
                self._running.add(turn)
                turn.began = now
                turn.ready.set_result(None)
