"""Sessions: the evaluation keys that clients left at the server, for a time.

A session is found by an identifier of 128 random bits, which is all that it takes to use it. Using it is computing on ciphertexts;
reading them takes the secret key, which never comes here.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hecompile.backends.base import Session
from hecompile.errors import ProtocolError
from hecompile.runtime.wire import SESSION_DIGITS

__all__ = ["SessionLimits", "SessionStore"]

REMEMBERED = 1024  # identifiers of expired sessions, for a better answer than "unknown"


@dataclass(frozen=True)
class SessionLimits:
    """What a server keeps: how many sessions, how many bytes of keys in all, and how long after their last use."""

    sessions: int = 8
    total_bytes: int = 8 << 30
    idle_s: float = 1800.0


@dataclass
class _Entry:
    session: Session
    size: int
    used: float


class SessionStore:
    """Open sessions by identifier. Safe for several threads. A full store refuses new sessions and keeps the old ones."""

    def __init__(self, limits: SessionLimits | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits or SessionLimits()
        self._clock, self._lock = clock, threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._expired: deque[str] = deque(maxlen=REMEMBERED)

    def reserve(self, size: int) -> None:
        """Raises `ProtocolError` (413, 503) if there is no room for keys of `size` bytes: to be asked before they are read."""
        with self._lock:
            self._reserve(size)

    def open(self, keys: Mapping[str, object], size: int) -> str:
        """Keep keys; the identifier of their session. Raises `ProtocolError` as `reserve` does."""
        with self._lock:
            self._reserve(size)
            identifier = secrets.token_hex(SESSION_DIGITS // 2)
            self._entries[identifier] = _Entry(Session(identifier, dict(keys)), size, self._clock())
        return identifier

    def find(self, identifier: str) -> Session:
        """The session, used now. Raises `ProtocolError`: 410 if it expired, 404 if there never was one."""
        with self._lock:
            self._expire()
            entry = self._entries.get(identifier)
            if entry is not None:
                entry.used = self._clock()
                return entry.session
            if identifier in self._expired:
                raise ProtocolError(f"the session was not used for {self.limits.idle_s:g} seconds: open a new one", status=410)
        raise ProtocolError("there is no such session: open a new one", status=404)

    def close(self, identifier: str) -> None:
        """Forget a session; nothing happens if there is none."""
        with self._lock:
            self._entries.pop(identifier, None)

    def __len__(self) -> int:
        with self._lock:
            self._expire()
            return len(self._entries)

    def _reserve(self, size: int) -> None:
        limits = self.limits
        if size > limits.total_bytes:
            raise ProtocolError(f"keys of {size} bytes: this server keeps {limits.total_bytes} in all", status=413)
        self._expire()
        if len(self._entries) >= limits.sessions or size + sum(entry.size for entry in self._entries.values()) > limits.total_bytes:
            raise ProtocolError("this server keeps as many sessions as it can: come back later", status=503)

    def _expire(self) -> None:
        oldest = self._clock() - self.limits.idle_s
        for identifier in [name for name, entry in self._entries.items() if entry.used < oldest]:
            del self._entries[identifier]
            self._expired.append(identifier)
