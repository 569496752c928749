"""What becomes of a request: judged before its body is read, given room, queued, evaluated, and answered or refused."""

from __future__ import annotations

import asyncio
import re
from contextlib import ExitStack

from fastapi import Request

from hecompile.buffers import Buffer
from hecompile.runtime.service import Service
from hecompile.runtime.serving.connections import Connections
from hecompile.runtime.serving.evaluations import Evaluation, Evaluations, Work
from hecompile.runtime.serving.incoming import Incoming
from hecompile.runtime.serving.limits import Limits
from hecompile.runtime.serving.metrics import Metrics
from hecompile.runtime.serving.owners import Tokens, is_local, owner_of
from hecompile.runtime.serving.queue import FairQueue
from hecompile.runtime.serving.refusals import RefusalError
from hecompile.runtime.serving.room import Room
from hecompile.runtime.serving.worker import Worker
from hecompile.runtime.wire import TAG_HEADER

__all__ = ["Desk"]

_DIGITS = 20  # of a length, which h11 does not take longer
_TAG = re.compile(r"[0-9a-f]{32}")
_SESSIONS = "sessions"  # in the place of a region's name, in which no region's name has a dot
_KEYS_RATE, _KEYS_GRACE_S = 1 << 20, 30.0  # bytes per second of evaluation keys, after a time that small ones may take


class Desk:
    """What all requests to one server share: its limits, the queue, who is known, and what is counted."""

    def __init__(
        self, service: Service, limits: Limits, tokens: Tokens | None = None, proxies: tuple[str, ...] = (), places: int = 1
    ) -> None:
        """The desk of a server.

        Args:
            tokens: those that open this server; None opens it to everybody.
            proxies: addresses that speak for others.
            places: evaluations at a time.
        """
        self.service, self.limits, self.tokens, self.metrics = service, limits, tokens, Metrics()
        closed, ended = self.metrics.closed, self.metrics.sessions_ended
        self.connections = Connections(limits, proxies, lambda reason: closed.labels(reason).inc())
        self.queue, self.room = FairQueue(limits.queue_s, places), Room(limits.body_bytes)
        self.evaluations = Evaluations(limits, self.queue, self.metrics.evaluation_s.observe, self.metrics.dropped.inc)
        self._keys_thread = Worker[str]("hecompile-keys")
        service.sessions.ended = lambda reason: ended.labels(reason).inc()
        self._tell()

    def _tell(self) -> None:
        sessions, gauge = self.service.sessions, self.metrics.gauge
        gauge("waiting_requests", "Requests that wait for their turn", lambda: self.queue.length)
        gauge("running_evaluations", "Requests that are evaluated", lambda: self.queue.running)
        gauge("expected_wait_seconds", "Seconds that a request that comes now would wait", lambda: self.queue.expected_s)
        gauge("body_bytes", "Room of requests that arrive, wait or are evaluated", lambda: self.room.taken)
        gauge("connections", "Open connections", lambda: len(self.connections))
        gauge("sessions", "Open sessions", lambda: len(sessions))
        gauge("session_bytes", "Memory that evaluation keys take, or are about to take", lambda: sessions.total_bytes)

    def owner(self, request: Request) -> str:
        """Who asks. Raises `RefusalError` (401) where a token is needed and the right one is not shown."""
        if self.tokens is None:
            return owner_of(request.client)
        owner = self.tokens.owner(request.headers.get("authorization"))
        if owner is None:
            raise RefusalError("this server wants a token: Authorization: Bearer ...", 401, "token")
        return owner

    def incoming(self, request: Request) -> Incoming:
        """The request's body. What comes in chunks has no length, whatever it announces besides."""
        text = "" if "transfer-encoding" in request.headers else request.headers.get("content-length", "")
        announced = int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else None
        invite = request.headers.get("expect", "").lower() == "100-continue"
        return Incoming(request.receive, announced, self.limits, self.metrics.received.inc, invite)

    async def evaluate(self, request: Request, incoming: Incoming, digest: str, region: str) -> Buffer:
        """A region's answer.

        Raises:
            ProtocolError: with the status that fits, for whatever is not answered.
            GoneError: if the client has closed its connection.
        """
        owner, limit = self.owner(request), self.service.body_limit
        self.service.judge(digest, region)
        key = _key(region, request)
        outcome = self._repeated(key)
        if outcome is None:
            self.queue.judge(owner)
            with ExitStack() as held:  # until the evaluation is over
                hold = self.room.take(owner, min(incoming.announced if incoming.announced is not None else limit, limit))
                held.callback(self.room.give_back, hold)
                body = await incoming.read(limit, hold)
                hold.arriving = False
                outcome = self._repeated(key)
                if outcome is None:
                    held.enter_context(self.service.expect(region, body))
                    run, cancel = lambda: self.service.answer(digest, region, body), lambda: self.service.cancel(region)
                    outcome = self.evaluations.start(key, owner, region, Work(run, cancel, held.pop_all().close))
        if isinstance(outcome, Evaluation):
            return await self.evaluations.answer(outcome, incoming, limit)
        await incoming.read(limit, keep=False)
        return outcome

    async def open_session(self, request: Request, incoming: Incoming, digest: str) -> Buffer:
        """The identifier of a session for the keys of the body. Raises as `evaluate` does."""
        owner = self.owner(request)
        key = _key(_SESSIONS, request)
        found = self._repeated(key)
        if found is not None and not isinstance(found, Evaluation):
            await incoming.read(self.service.key_limit, keep=False)
            return found
        with self.service.reserve_session(digest, "" if is_local(owner) else owner) as reservation:
            limit = self.service.key_limit
            try:
                async with asyncio.timeout(_KEYS_GRACE_S + limit / _KEYS_RATE):
                    body = await incoming.read(limit)
            except TimeoutError:
                raise RefusalError("the keys come too slowly: 1 MiB/s is the least", 408, "slow") from None
            identifier = (await self._keys_thread.run(lambda: self.service.open_session(digest, body, reservation))).encode()
        if key is not None:
            self.evaluations.keep(key, identifier)
        return identifier

    def _repeated(self, key: tuple[str, str] | None) -> Evaluation | Buffer | None:
        """The answer to a request that came before, or its evaluation."""
        if key is None:
            return None
        found = self.evaluations.under_way(key) or self.evaluations.kept(key)
        if found is not None:
            self.metrics.repeated.inc()
        return found


def _key(region: str, request: Request) -> tuple[str, str] | None:
    """By what a request is found again: its tag, which only its sender knows. Raises `RefusalError` for what is no tag."""
    tag = request.headers.get(TAG_HEADER)
    if tag is None:
        return None
    if not _TAG.fullmatch(tag):
        raise RefusalError(f"{TAG_HEADER}: 32 hexadecimal digits are expected", 422, "malformed")
    return region, tag
