"""The server's process: its socket, its limits at work, and its end. Imports neither torch nor diffusers, nor what holds a key."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Protocol

import uvicorn

from hecompile.runtime.service import Service
from hecompile.runtime.serving.app import application, create_app
from hecompile.runtime.serving.connections import protocol_of
from hecompile.runtime.serving.desk import Desk
from hecompile.runtime.serving.limits import ACCEPTED_AT_ONCE, Limits, limits_of_machine
from hecompile.runtime.serving.owners import Tokens, spellings
from hecompile.runtime.serving.quiet import quieten

__all__ = ["bind", "create_app", "is_loopback", "serve_socket"]

LOG = logging.getLogger(__name__)
BACKLOG = 1024  # connections that the system keeps until they are accepted


class Workers(Protocol):
    """Who evaluates in place of the server's own process: so many at a time."""

    retried: Callable[[], None]  # called when an evaluation begins again, because its worker had ended

    @property
    def places(self) -> int: ...

    def restart(self) -> None:
        """Replace them, while the others go on."""
        ...


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `OSError`.

    The protocol is named: only then asyncio turns Nagle's algorithm off, with which every reply waits 40 ms.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine can reach a listening socket."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def serve_socket(
    service: Service,
    listener: socket.socket,
    limits: Limits | None = None,
    tokens: Tokens | None = None,
    proxies: Sequence[str] = (),
    openapi: bool = False,
    workers: Workers | None = None,
) -> None:
    """Serve on a bound socket until interrupted.

    Args:
        limits: what is allowed; None for what fits this machine.
        tokens: those that open this server; None opens it to everybody.
        proxies: addresses whose `X-Forwarded-For` is believed.
        openapi: whether to serve a description of the routes.
        workers: those that evaluate, where it is not this process; SIGHUP then replaces them one after the other.
    """
    limits = limits or limits_of_machine(service.body_limit)
    desk = Desk(service, limits, tokens, tuple(proxies), 1 if workers is None else workers.places)
    if workers is not None:
        workers.retried = desk.metrics.retried.inc
    config = uvicorn.Config(
        application(desk, openapi),
        http=protocol_of(desk.connections, limits),
        loop="asyncio",  # also where uvloop is installed, as with Ray: `Connections` was tried on this one alone
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=spellings(proxies),
        backlog=min(ACCEPTED_AT_ONCE, limits.connections // 2),
        timeout_keep_alive=int(limits.idle_s) + 1,
        timeout_graceful_shutdown=int(limits.stop_s) + 3,
    )
    quieten()
    with nullcontext() if workers is None else _restarted_by_signal(workers):
        _Server(config, desk, listener).run(sockets=[listener])


@contextmanager
def _restarted_by_signal(workers: Workers) -> Iterator[None]:
    """Within it SIGHUP replaces the workers, in a thread; one that comes while they are being replaced is left out."""
    at_work = threading.Lock()

    def restart() -> None:
        if at_work.acquire(blocking=False):
            try:
                workers.restart()
            except Exception:  # those that were there go on
                LOG.exception("the workers could not be replaced")
            finally:
                at_work.release()

    before = signal.signal(signal.SIGHUP, lambda number, frame: threading.Thread(target=restart, daemon=True).start())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


class _Server(uvicorn.Server):
    """uvicorn's server, which ends soon whatever strangers do."""

    def __init__(self, config: uvicorn.Config, desk: Desk, listener: socket.socket) -> None:
        super().__init__(config)
        self._desk, self._listener = desk, listener

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listener.listen(BACKLOG)  # asyncio accepts as many at once as it lets wait: few, but more may wait

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """What waits is sent away, to come again; what is evaluated has some seconds; what has not arrived is cut off."""
        self._desk.queue.close()
        self._desk.connections.close_unfinished()
        asyncio.get_running_loop().call_later(self._desk.limits.stop_s, self._desk.evaluations.close)
        await super().shutdown(sockets)
        self._desk.evaluations.close()
