"""Sessions: evaluation keys that clients leave at the server for a time.

Evaluation keys allow computing on a client's ciphertexts, not reading them: that takes the secret key, which never leaves the
client. A session is named by an identifier of 128 random bits; whoever knows it can use the session's keys.
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

REMEMBERED = 1024  # identifiers of expired and evicted sessions that are remembered, for a better answer than "unknown"


@dataclass(frozen=True)
class SessionLimits:
    """How many sessions and bytes of keys a server keeps, and for how many seconds after their last use.

    If there is no space for another session, an idle one is evicted: a session that was never used after `unused_s`, others after
    `evict_after_s`. The client with most sessions loses the one that was idle longest. A client has at most `per_client` sessions
    and, if it has several, half of the bytes; clients on the server's own machine have no such limit.
    """

    sessions: int = 64
    total_bytes: int = 8 << 30
    idle_s: float = 1800.0
    per_client: int = 16
    evict_after_s: float = 60.0
    unused_s: float = 1.0


@dataclass
class _Entry:
    """A session, its size in bytes, and when it was last used."""

    session: Session
    size: int
    client_id: str
    used: float
    ever: bool = False  # whether any request used it
    busy: int = 0  # requests that use it now


class Reservation:
    """Memory that is reserved for one session while its keys arrive. It is released at the end of the block, unless the session was
    opened."""

    def __init__(self, store: SessionStore, client_id: str, size: int) -> None:
        self._store, self.client_id, self.size = store, client_id, size

    def __enter__(self) -> Reservation:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._store.release(self)


class SessionStore:
    """Open sessions by identifier. It may be used by several threads."""

    def __init__(
        self,
        limits: SessionLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        ended: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """Start without sessions. `ended` is called with the reason when a session ends: closed, expired or evicted."""
        self.limits = limits or SessionLimits()
        self.ended = ended
        self._clock, self._lock = clock, threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._reserved: set[Reservation] = set()
        self._forgotten: deque[str] = deque(maxlen=REMEMBERED)

    def limit(self, sessions: int, total_bytes: int, idle_s: float) -> None:
        """Set the limits. Sessions that are open stay open."""
        self.limits = replace(self.limits, sessions=sessions, total_bytes=total_bytes, idle_s=idle_s)

    def reserve(self, size: int, client_id: str = "") -> Reservation:
        """Reserve memory for keys of `size` bytes, before they are read.

        Args:
            client_id: the client whose session it will be; empty for clients on this machine, which have no quota.

        Raises:
            ProtocolError: 413 if the keys exceed all memory for keys, 503 if there is not enough of it now.
        """
        limits = self.limits
        if size > limits.total_bytes:
            raise ProtocolError(f"keys of {size} bytes: this server keeps {limits.total_bytes} in all", status=413)
        with self._lock:
            self._expire()
            while client_id and self._has_enough(client_id, size):
                if not self._evict(client_id):
                    raise ProtocolError(
                        f"you have {self._count(client_id)} sessions, and may not open another: close one, or come back later",
                        status=503,
                    )
            while len(self._entries) + len(self._reserved) >= limits.sessions or size + self._bytes() > limits.total_bytes:
                if not self._evict(None):
                    raise ProtocolError("this server keeps as many sessions as it can: come back later", status=503)
            reservation = Reservation(self, client_id, size)
            self._reserved.add(reservation)
        return reservation

    def release(self, reservation: Reservation) -> None:
        """Release a reservation for which no session was opened. Calling it again has no effect."""
        with self._lock:
            self._reserved.discard(reservation)

    def open(self, keys: Mapping[str, object], size: int, reservation: Reservation | None = None) -> str:
        """Store keys that occupy `size` bytes and return the identifier of their session. Raises `ProtocolError` as `reserve`
        does."""
        reservation = reservation or self.reserve(size)
        identifier = secrets.token_hex(SESSION_DIGITS // 2)
        with self._lock:
            self._reserved.discard(reservation)
            self._entries[identifier] = _Entry(Session(identifier, dict(keys)), size, reservation.client_id, self._clock())
        return identifier

    def find(self, identifier: str) -> Session:
        """Return a session and mark it as used. Raises `ProtocolError`: 410 if it expired or was evicted, 404 if it never
        existed."""
        with self._lock:
            return self._found(identifier).session

    @contextmanager
    def use(self, identifier: str) -> Iterator[Session]:
        """Give a session that does not expire within the block. Raises `ProtocolError` as `find` does."""
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
        """Forget a session, if it exists."""
        with self._lock:
            entry = self._entries.pop(identifier, None)
        if entry is not None:
            self.ended("closed")

    @property
    def total_bytes(self) -> int:
        """Bytes of memory that keys occupy or are reserved for."""
        with self._lock:
            return self._bytes()

    def __len__(self) -> int:
        with self._lock:
            self._expire()
            return len(self._entries)

    def _found(self, identifier: str) -> _Entry:
        """Return the entry of a session and mark it as used."""
        self._expire()
        entry = self._entries.get(identifier)
        if entry is not None:
            entry.used, entry.ever = self._clock(), True
            return entry
        if identifier in self._forgotten:
            raise ProtocolError("the session was not used for a while: open a new one", status=410)
        raise ProtocolError("there is no such session: open a new one", status=404)

    def _bytes(self) -> int:
        return sum(entry.size for entry in self._entries.values()) + sum(reservation.size for reservation in self._reserved)

    def _count(self, client_id: str) -> int:
        return sum(entry.client_id == client_id for entry in self._entries.values()) + sum(
            reservation.client_id == client_id for reservation in self._reserved
        )

    def _has_enough(self, client_id: str, size: int) -> bool:
        """Return whether this client may not have `size` bytes more. A first session is always allowed."""
        count = self._count(client_id)
        held = sum(entry.size for entry in self._entries.values() if entry.client_id == client_id)
        held += sum(reservation.size for reservation in self._reserved if reservation.client_id == client_id)
        return count >= self.limits.per_client or (count > 0 and held + size > self.limits.total_bytes // 2)

    def _expire(self) -> None:
        """Forget sessions that were idle for too long."""
        oldest = self._clock() - self.limits.idle_s
        for identifier in [name for name, entry in self._entries.items() if entry.used < oldest and not entry.busy]:
            self._forget(identifier, "expired")

    def _evict(self, client_id: str | None) -> bool:
        """End an idle session of this client, or without one of the client that has most. Returns whether any session was idle long
        enough."""
        now, limits = self._clock(), self.limits
        held = Counter(entry.client_id for entry in self._entries.values())
        idle = [
            (-held[entry.client_id], entry.used, name)
            for name, entry in self._entries.items()
            if client_id in (None, entry.client_id)
            and not entry.busy
            and now - entry.used >= (limits.evict_after_s if entry.ever else limits.unused_s)
        ]
        if idle:
            self._forget(min(idle)[-1], "evicted")
        return bool(idle)

    def _forget(self, identifier: str, reason: str) -> None:
        """Remove a session, and remember its identifier."""
        del self._entries[identifier]
        self._forgotten.append(identifier)
        self.ended(reason)
