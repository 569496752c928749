"""The limits of a server: how many connections, bytes and seconds it allows its clients."""

from __future__ import annotations

import os
import resource
from dataclasses import asdict, dataclass, replace
from typing import Any

from hecompile.errors import CompileError

__all__ = ["ACCEPTED_AT_ONCE", "Limits", "limits_of_machine"]

ACCEPTED_AT_ONCE = 32  # connections that asyncio may accept before the first of them is counted
_OWN_DESCRIPTORS = (
    64 + 4 * ACCEPTED_AT_ONCE
)  # file descriptors for files, pipes of workers, and connections that are not counted yet
_MOST_CONNECTIONS = 2000
_MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """How much a server allows. Raises `CompileError` for numbers that no server can work with.

    Raises:
        CompileError: for numbers that no server can work with.
    """

    connections: int = 500  # open at the same time; beyond that the one that is idle longest is closed
    first_byte_s: float = 10.0  # from a connection's start to the first byte of a request
    header_s: float = 10.0  # from there to the end of its header
    idle_s: float = 30.0  # from a reply to the next request
    least_rate: int = 64 << 10  # bytes per second at which a body must arrive, and a reply must be read
    grace_s: float = 5.0  # before the least rate is required
    body_bytes: int = 512 * _MIB  # memory for all requests that arrive or wait; one client may have half of it
    queue_s: float = 30.0  # longest expected wait of a new request, by the measured seconds of those before it
    abandoned_s: float = 2.0  # how long an evaluation continues after its client is gone, since the client may ask again
    kept_bytes: int = 32 * _MIB  # memory for replies that are kept for clients that ask again
    kept_s: float = 30.0  # how long such replies are kept
    stop_s: float = 10.0  # how long a server that is told to stop waits for running evaluations
    key_bytes: int = 8 << 30  # memory for the evaluation keys of all sessions
    sessions: int = 64  # open at the same time
    session_idle_s: float = 1800.0  # after which an unused session ends

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 0 < value < float("inf"):
                raise CompileError(f"the limit {name} is {value}: it must be above zero, and finite")
        if self.connections < 4:
            raise CompileError(f"{self.connections} connections are too few to serve anybody")

    def document(self) -> dict[str, Any]:
        """Return the limits by name, to be printed as JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"limits: {self.connections} connections; requests wait up to {self.queue_s:g} s and hold up to "
            f"{self.body_bytes / _MIB:.0f} MiB, from {self.least_rate >> 10} KiB/s on; "
            f"{self.sessions} sessions with {self.key_bytes / _MIB:.0f} MiB of keys, {self.session_idle_s:g} s after their last use"
        )


def limits_of_machine(largest_request: int, **given: float | None) -> Limits:
    """Return the limits that fit this process's file descriptors and this machine's memory.

    Args:
        largest_request: bytes; four requests of this size always fit, two of them from one client.
        given: limits by name that the caller set; None for those that follow from the machine.

    Raises:
        CompileError: for given limits that this machine cannot keep.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    files = _descriptors()
    most = max(4, files - _OWN_DESCRIPTORS)
    fitting = Limits(
        connections=min(_MOST_CONNECTIONS, most),
        body_bytes=max(4 * largest_request, min(512 * _MIB, memory // 16)),
        key_bytes=min(8 << 30, memory // 2),
    )
    set_limits = {name: value for name, value in given.items() if value is not None}
    limits = replace(fitting, **set_limits)  # type: ignore[arg-type]  # of the fields' types, by the commands' own annotations
    if limits.connections > most:
        raise CompileError(
            f"{limits.connections} connections are too many: this process may open {files} files, enough for {most} connections"
        )
    if limits.body_bytes < 4 * largest_request:
        raise CompileError(
            f"requests of this artifact have up to {largest_request} bytes: the memory for requests must hold at least four of them"
        )
    return limits


def _descriptors() -> int:
    """Return how many files this process may open, after raising that limit as far as it is useful and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_CONNECTIONS + _OWN_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        best = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (best, hard))
        soft = best
    return wanted if soft == resource.RLIM_INFINITY else soft
