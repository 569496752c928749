"""Sessions: the evaluation keys that clients left at the server, for a time.

A session is found by an identifier of 128 random bits, which is all that it takes to use it. Using it is computing on ciphertexts;
reading them takes the secret key, which never comes here.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import TracebackType

from hecompile.backends.region_server import Session
from hecompile.errors import ProtocolError
from hecompile.runtime.wire import SESSION_DIGITS

__all__ = ["Reservation", "SessionLimits", "SessionStore"]

REMEMBERED = 1024  # identifiers of sessions that ended by themselves, for a better answer than "unknown"


@dataclass(frozen=True)
class SessionLimits:
    """What a server keeps: how many sessions, how many bytes of keys in memory, and how long after their last use.

    Where there is no room for another session, an idle one ends for it: one that was never used after `unused_s`, others after
    `evict_after_s`; of those the one that is idle longest, of the owner that has most. Nobody but this machine has more than
    `per_owner` of them, or of several more than half of the bytes.
    """

    sessions: int = 64
    total_bytes: int = 8 << 30
    idle_s: float = 1800.0
    per_owner: int = 16
    evict_after_s: float = 60.0
    unused_s: float = 1.0


@dataclass
class _Entry:
    session: Session
    size: int
    owner: str
    used: float
    ever: bool = False  # whether a request named it
    busy: int = 0  # requests that use it now


class Reservation:
    """Room for one session while its keys are on their way: held until it is opened, or given back at the end of the block."""

    def __init__(self, store: SessionStore, owner: str, size: int) -> None:
        self._store, self.owner, self.size = store, owner, size

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._store.release(self)


class SessionStore:
    """Open sessions by identifier. Safe for several threads."""

    def __init__(
        self,
        limits: SessionLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        ended: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """`ended` is told why a session ended: closed, expired or evicted."""
        self.limits = limits or SessionLimits()
        self.ended = ended
        self._clock, self._lock = clock, threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._reserved: set[Reservation] = set()
        self._forgotten: deque[str] = deque(maxlen=REMEMBERED)

    def limit(self, sessions: int, total_bytes: int, idle_s: float) -> None:
        """Set the limits; sessions that are open stay."""
        self.limits = replace(self.limits, sessions=sessions, total_bytes=total_bytes, idle_s=idle_s)

    def reserve(self, size: int, owner: str = "") -> Reservation:
        """Hold room for keys of `size` bytes, before they are read.

        Args:
            owner: whose session it will be; empty for those who share this machine and have no quota.

        Raises:
            ProtocolError: 413 if there never is so much room, 503 if there is none now.
        """
        limits = self.limits
        if size > limits.total_bytes:
            raise ProtocolError(f"keys of {size} bytes: this server keeps {limits.total_bytes} in all", status=413)
        with self._lock:
            self._expire()
            while owner and self._has_enough(owner, size):
                if not self._evict(owner):
                    raise ProtocolError(f"you have {self._count(owner)} sessions: close one, or come back later", status=503)
            while len(self._entries) + len(self._reserved) >= limits.sessions or size + self._bytes() > limits.total_bytes:
                if not self._evict(None):
                    raise ProtocolError("this server keeps as many sessions as it can: come back later", status=503)
            reservation = Reservation(self, owner, size)
            self._reserved.add(reservation)
        return reservation

    def release(self, reservation: Reservation) -> None:
        """Give back what no session was opened for; nothing happens the second time."""
        with self._lock:
            self._reserved.discard(reservation)

    def open(self, keys: Mapping[str, object], size: int, reservation: Reservation | None = None) -> str:
        """Keep keys that take `size` bytes; the identifier of their session. Raises `ProtocolError` as `reserve` does."""
        reservation = reservation or self.reserve(size)
        identifier = secrets.token_hex(SESSION_DIGITS // 2)
        with self._lock:
            self._reserved.discard(reservation)
            self._entries[identifier] = _Entry(Session(identifier, dict(keys)), size, reservation.owner, self._clock())
        return identifier

    def find(self, identifier: str) -> Session:
        """The session, used now. Raises `ProtocolError`: 410 if it expired or had to make room, 404 if there never was one."""
        with self._lock:
            return self._found(identifier).session

    @contextmanager
    def use(self, identifier: str) -> Iterator[Session]:
        """The session, which is not idle within the block. Raises `ProtocolError` as `find` does."""
        with self._lock:
            entry = self._found(identifier)
            entry.busy += 1
        try:
            yield entry.session
        finally:
            with self._lock:
                entry.busy -= 1
                entry.used = self._clock()

    def close(self, identifier: str) -> None:
        """Forget a session; nothing happens if there is none."""
        with self._lock:
            found = self._entries.pop(identifier, None)
        if found is not None:
            self.ended("closed")

    @property
    def total_bytes(self) -> int:
        """Memory that keys take or are about to take."""
        with self._lock:
            return self._bytes()

    def __len__(self) -> int:
        with self._lock:
            self._expire()
            return len(self._entries)

    def _found(self, identifier: str) -> _Entry:
        self._expire()
        entry = self._entries.get(identifier)
        if entry is not None:
            entry.used, entry.ever = self._clock(), True
            return entry
        if identifier in self._forgotten:
            raise ProtocolError("the session was not used for a while: open a new one", status=410)
        raise ProtocolError("there is no such session: open a new one", status=404)

    def _bytes(self) -> int:
        return sum(entry.size for entry in self._entries.values()) + sum(each.size for each in self._reserved)

    def _count(self, owner: str) -> int:
        return sum(entry.owner == owner for entry in self._entries.values()) + sum(each.owner == owner for each in self._reserved)

    def _has_enough(self, owner: str, size: int) -> bool:
        """Whether this owner may not have `size` bytes more: a first session is always allowed."""
        count = self._count(owner)
        held = sum(entry.size for entry in self._entries.values() if entry.owner == owner)
        held += sum(each.size for each in self._reserved if each.owner == owner)
        return count >= self.limits.per_owner or (count > 0 and held + size > self.limits.total_bytes // 2)

    def _expire(self) -> None:
        oldest = self._clock() - self.limits.idle_s
        for identifier in [name for name, entry in self._entries.items() if entry.used < oldest and not entry.busy]:
            self._forget(identifier, "expired")

    def _evict(self, owner: str | None) -> bool:
        """End an idle session of this owner, or of the one that has most; whether one was idle for long enough."""
        now, limits = self._clock(), self.limits
        held = Counter(entry.owner for entry in self._entries.values())
        idle = [
            (-held[entry.owner], entry.used, name)
            for name, entry in self._entries.items()
            if owner in (None, entry.owner)
            and not entry.busy
            and now - entry.used >= (limits.evict_after_s if entry.ever else limits.unused_s)
        ]
        if idle:
            self._forget(min(idle)[-1], "evicted")
        return bool(idle)

    def _forget(self, identifier: str, reason: str) -> None:
        del self._entries[identifier]
        self._forgotten.append(identifier)
        self.ended(reason)
