"""The server process: its socket, its limits, and how it ends. It imports neither torch nor diffusers, nor anything that holds a
secret key."""

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
from hecompile.runtime.serving.client_identity import Tokens, spellings
from hecompile.runtime.serving.connections import protocol_of
from hecompile.runtime.serving.limits import ACCEPTED_AT_ONCE, Limits, limits_of_machine
from hecompile.runtime.serving.log_limits import limit_logs
from hecompile.runtime.serving.request_handler import RequestHandler

__all__ = ["bind", "create_app", "is_loopback", "serve_socket"]

LOG = logging.getLogger(__name__)
BACKLOG = 1024  # connections that the operating system queues until they are accepted


class Workers(Protocol):
    """Processes that evaluate requests in place of the server's own process."""

    retried: Callable[[], None]  # called when an evaluation starts again because its worker ended

    @property
    def places(self) -> int:
        """How many evaluations run at the same time."""
        ...

    def restart(self) -> None:
        """Replace the workers one after the other, while the others continue."""
        ...


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises `OSError`.

    The protocol is given as TCP, since asyncio turns Nagle's algorithm off only then; with it every reply would wait 40 ms.
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
    """Return whether only this machine can reach a listening socket."""
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
        limits: how much the server accepts; None for limits that fit this machine.
        tokens: bearer tokens that this server accepts; None serves everybody.
        proxies: addresses of proxies whose `X-Forwarded-For` header is trusted.
        openapi: whether to serve a description of the routes.
        workers: processes that evaluate in place of this one; SIGHUP then replaces them one after the other.
    """
    limits = limits or limits_of_machine(service.body_limit)
    handler = RequestHandler(service, limits, tokens, tuple(proxies), 1 if workers is None else workers.places)
    if workers is not None:
        workers.retried = handler.metrics.retried.inc
    config = uvicorn.Config(
        application(handler, openapi),
        http=protocol_of(handler.connections, limits),
        loop="asyncio",  # not uvloop, which Ray installs: `Connections` was tested with asyncio only
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
    limit_logs()
    with nullcontext() if workers is None else _restarted_by_signal(workers):
        _Server(config, handler, listener).run(sockets=[listener])


@contextmanager
def _restarted_by_signal(workers: Workers) -> Iterator[None]:
    """Within the block, SIGHUP replaces the workers in a thread. A SIGHUP that comes during a replacement is ignored."""
    at_work = threading.Lock()

    def restart() -> None:
        if at_work.acquire(blocking=False):
            try:
                workers.restart()
            except Exception:  # the old workers continue
                LOG.exception("the workers could not be replaced")
            finally:
                at_work.release()

    before = signal.signal(signal.SIGHUP, lambda number, frame: threading.Thread(target=restart, daemon=True).start())
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


class _Server(uvicorn.Server):
    """uvicorn's server, which ends within seconds whatever its clients do."""

    def __init__(self, config: uvicorn.Config, handler: RequestHandler, listener: socket.socket) -> None:
        super().__init__(config)
        self._handler, self._listener = handler, listener

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listener.listen(BACKLOG)  # asyncio accepts `backlog` connections at once, which is few; more may wait

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse requests that wait, give running evaluations `stop_s` seconds, and close connections whose request has not
        arrived."""
        self._handler.queue.close()
        self._handler.connections.close_unfinished()
        asyncio.get_running_loop().call_later(self._handler.limits.stop_s, self._handler.evaluations.close)
        await super().shutdown(sockets)
        self._handler.evaluations.close()
