"""Handles requests: checks them before their body is read, reserves memory, queues, evaluates, and answers or refuses them."""

from __future__ import annotations

import asyncio
import re
from contextlib import ExitStack

from fastapi import Request

from hecompile.buffers import Buffer
from hecompile.runtime.service import Service
from hecompile.runtime.serving.body_memory import BodyMemory
from hecompile.runtime.serving.client_identity import Tokens, client_id_of, is_local
from hecompile.runtime.serving.connections import Connections
from hecompile.runtime.serving.evaluations import Evaluation, Evaluations, Work
from hecompile.runtime.serving.incoming import Incoming
from hecompile.runtime.serving.limits import Limits
from hecompile.runtime.serving.metrics import Metrics
from hecompile.runtime.serving.queue import FairQueue
from hecompile.runtime.serving.refusals import RefusalError
from hecompile.runtime.serving.worker import Worker
from hecompile.runtime.wire import TAG_HEADER

__all__ = ["RequestHandler"]

_DIGITS = 20  # digits of a Content-Length; h11 accepts no longer ones
_TAG = re.compile(r"[0-9a-f]{32}")
_SESSIONS = "sessions"  # stands for a region's name in the keys of requests that open sessions
_KEYS_RATE, _KEYS_GRACE_S = 1 << 20, 30.0  # least bytes per second of evaluation keys, after a grace period


class RequestHandler:
    """What all requests to one server share: its limits, the queue, tokens, sessions and metrics."""

    def __init__(
        self, service: Service, limits: Limits, tokens: Tokens | None = None, proxies: tuple[str, ...] = (), places: int = 1
    ) -> None:
        """Start with an empty queue.

        Args:
            tokens: bearer tokens that the server accepts; None serves everybody.
            proxies: addresses of proxies, which send requests of many clients.
            places: how many evaluations may run at the same time.
        """
        self.service, self.limits, self.tokens, self.metrics = service, limits, tokens, Metrics()
        closed, ended = self.metrics.closed, self.metrics.sessions_ended
        self.connections = Connections(limits, proxies, lambda reason: closed.labels(reason).inc())
        self.queue, self.body_memory = FairQueue(limits.queue_s, places), BodyMemory(limits.body_bytes)
        self.evaluations = Evaluations(limits, self.queue, self.metrics.evaluation_s.observe, self.metrics.dropped.inc)
        self._keys_thread = Worker[str]("hecompile-keys")
        service.sessions.ended = lambda reason: ended.labels(reason).inc()
        self._add_gauges()

    def _add_gauges(self) -> None:
        """Publish numbers that are read when somebody asks for the metrics."""
        sessions, gauge = self.service.sessions, self.metrics.gauge
        gauge("waiting_requests", "Requests that wait for their turn", lambda: self.queue.length)
        gauge("running_evaluations", "Requests that are evaluated", lambda: self.queue.running)
        gauge("expected_wait_seconds", "Seconds that a request that comes now would wait", lambda: self.queue.expected_s)
        gauge("body_bytes", "Memory of requests that arrive, wait or are evaluated", lambda: self.body_memory.reserved_bytes)
        gauge("connections", "Open connections", lambda: len(self.connections))
        gauge("sessions", "Open sessions", lambda: len(sessions))
        gauge("session_bytes", "Memory that evaluation keys occupy, or for which it is reserved", lambda: sessions.total_bytes)

    def client_id(self, request: Request) -> str:
        """Return who sent a request. Raises `RefusalError` (401) if the server needs a token and the request has none or a wrong
        one."""
        if self.tokens is None:
            return client_id_of(request.client)
        client_id = self.tokens.client_id(request.headers.get("authorization"))
        if client_id is None:
            raise RefusalError("this server needs a token: Authorization: Bearer ...", 401, "token")
        return client_id

    def incoming(self, request: Request) -> Incoming:
        """Return the body of a request, still to be read. A chunked body counts as one of unknown length."""
        text = "" if "transfer-encoding" in request.headers else request.headers.get("content-length", "")
        announced = int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None
        invite = request.headers.get("expect", "").lower() == "100-continue"
        return Incoming(request.receive, announced, self.limits, self.metrics.received.inc, invite)

    async def evaluate(self, request: Request, incoming: Incoming, digest: str, region: str) -> Buffer:
        """Return the reply of a region.

        Raises:
            ProtocolError: with a fitting HTTP status, if the request is refused.
            GoneError: if the client has closed its connection.
        """
        client_id, limit = self.client_id(request), self.service.body_limit
        self.service.check_request(digest, region)
        key = _key(region, request)
        outcome = self._repeated(key)
        if outcome is None:
            self.queue.check(client_id)
            with ExitStack() as held:  # until the evaluation is over
                reservation = self.body_memory.reserve(
                    client_id, min(incoming.announced if incoming.announced is not None else limit, limit)
                )
                held.callback(self.body_memory.release, reservation)
                body = await incoming.read(limit, reservation)
                reservation.arriving = False
                outcome = self._repeated(key)
                if outcome is None:
                    held.enter_context(self.service.expect(region, body))
                    run, cancel = lambda: self.service.answer(digest, region, body), lambda: self.service.cancel(region)
                    outcome = self.evaluations.start(key, client_id, region, Work(run, cancel, held.pop_all().close))
        if isinstance(outcome, Evaluation):
            return await self.evaluations.answer(outcome, incoming, limit)
        await incoming.read(limit, keep=False)
        return outcome

    async def open_session(self, request: Request, incoming: Incoming, digest: str) -> Buffer:
        """Load the keys of the body and return the identifier of their session. Raises as `evaluate` does."""
        client_id = self.client_id(request)
        key = _key(_SESSIONS, request)
        identifier_before = self._repeated(key)
        if identifier_before is not None and not isinstance(identifier_before, Evaluation):
            await incoming.read(self.service.key_limit, keep=False)
            return identifier_before
        with self.service.reserve_session(digest, "" if is_local(client_id) else client_id) as reservation:
            limit = self.service.key_limit
            try:
                async with asyncio.timeout(_KEYS_GRACE_S + limit / _KEYS_RATE):
                    body = await incoming.read(limit)
            except TimeoutError:
                raise RefusalError("the keys arrive too slowly: at least 1 MiB/s is needed", 408, "slow") from None
            identifier = (await self._keys_thread.run(lambda: self.service.open_session(digest, body, reservation))).encode()
        if key is not None:
            self.evaluations.keep(key, identifier)
        return identifier

    def _repeated(self, key: tuple[str, str] | None) -> Evaluation | Buffer | None:
        """Return the reply to a request that was sent before, or its evaluation if that is under way; None for a new request."""
        if key is None:
            return None
        outcome = self.evaluations.under_way(key) or self.evaluations.kept(key)
        if outcome is not None:
            self.metrics.repeated.inc()
        return outcome


def _key(region: str, request: Request) -> tuple[str, str] | None:
    """Return the key by which a repeated request is recognised: the region, and the tag that only its sender knows. Raises
    `RefusalError` for a malformed tag."""
    tag = request.headers.get(TAG_HEADER)
    if tag is None:
        return None
    if not _TAG.fullmatch(tag):
        raise RefusalError(f"{TAG_HEADER}: 32 hexadecimal digits are expected", 422, "malformed")
    return region, tag
