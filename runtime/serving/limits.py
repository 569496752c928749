"""How much a server takes from strangers: numbers of connections, bytes and seconds, in one place."""

from __future__ import annotations

import os
import resource
from dataclasses import asdict, dataclass, replace
from typing import Any

from hecompile.errors import CompileError

__all__ = ["ACCEPTED_AT_ONCE", "Limits", "limits_of_machine"]

ACCEPTED_AT_ONCE = 32  # connections that asyncio may accept before the first of them is counted
_OWN_DESCRIPTORS = 64 + 4 * ACCEPTED_AT_ONCE  # files, pipes of workers, and connections that are not counted yet
_MOST_CONNECTIONS = 2000
_MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What a server allows.

    Raises:
        CompileError: for numbers that no server can work with.
    """

    connections: int = 500  # open at a time; beyond that the one that is idle longest is closed
    first_byte_s: float = 10.0  # from a connection's start to the first byte of a request
    header_s: float = 10.0  # from there to the end of its header
    idle_s: float = 30.0  # from a reply to the next request
    least_rate: int = 64 << 10  # bytes per second of a body, and of a reply that is read
    grace_s: float = 5.0  # before the rate counts
    body_bytes: int = 512 * _MIB  # of requests that arrive or wait, in all; half of it from one address
    queue_s: float = 30.0  # that a new request may have to wait, by measured seconds of the ones before it
    abandoned_s: float = 2.0  # that an evaluation goes on for a client that is gone, which may ask again
    kept_bytes: int = 32 * _MIB  # of answers that are kept for a client that asks again
    kept_s: float = 30.0
    stop_s: float = 10.0  # that a server which is told to stop waits for what it evaluates
    key_bytes: int = 8 << 30  # of the evaluation keys of all sessions, in memory
    sessions: int = 64
    session_idle_s: float = 1800.0  # after which a session ends

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 < value < float("inf"):
                raise CompileError(f"the limit {name} is {value}: it must be above zero, and finite")
        if self.connections < 4:
            raise CompileError(f"{self.connections} connections are too few to serve anybody")

    def document(self) -> dict[str, Any]:
        """By name, as JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"limits: {self.connections} connections; requests wait up to {self.queue_s:g} s and hold up to "
            f"{self.body_bytes / _MIB:.0f} MiB, from {self.least_rate >> 10} KiB/s on; "
            f"{self.sessions} sessions with {self.key_bytes / _MIB:.0f} MiB of keys, {self.session_idle_s:g} s after their last use"
        )


def limits_of_machine(largest_request: int, **given: float | None) -> Limits:
    """The limits that fit this process's descriptors and this machine's memory.

    Args:
        largest_request: bytes; four requests of this size always fit, two of them from one address.
        given: limits by name that the caller chose; None for those that it leaves to the machine.

    Raises:
        CompileError: for chosen limits that do not work here.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    files = _descriptors()
    most = max(4, files - _OWN_DESCRIPTORS)
    fitting = Limits(
        connections=min(_MOST_CONNECTIONS, most),
        body_bytes=max(4 * largest_request, min(512 * _MIB, memory // 16)),
        key_bytes=min(8 << 30, memory // 2),
    )
    chosen = {name: value for name, value in given.items() if value is not None}
    limits = replace(fitting, **chosen)  # type: ignore[arg-type]  # of the fields' types, by the commands' own annotations
    if limits.connections > most:
        raise CompileError(f"{limits.connections} connections: this process may open {files} files, enough for {most}")
    if limits.body_bytes < 4 * largest_request:
        raise CompileError(f"requests of this artifact have up to {largest_request} bytes: allow at least four of them")
    return limits


def _descriptors() -> int:
    """Files that this process may open, after asking for as many as are of use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_CONNECTIONS + _OWN_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        best = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (best, hard))
        soft = best
    return wanted if soft == resource.RLIM_INFINITY else soft
