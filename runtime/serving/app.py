"""The routes of a server: regions, sessions, and what it tells of itself. FastAPI in front of a `Desk`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import FastAPI, Path, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.runtime.service import Service
from hecompile.runtime.serving.desk import Desk
from hecompile.runtime.serving.documented import ADDRESS, ANSWERS, GREETING, HEALTH, OPENED, REFUSED, taken
from hecompile.runtime.serving.incoming import Incoming
from hecompile.runtime.serving.limits import Limits
from hecompile.runtime.serving.metrics import CONTENT_TYPE, Metrics
from hecompile.runtime.serving.owners import Tokens
from hecompile.runtime.serving.refusals import GoneError, RefusalError, reason_of

__all__ = ["create_app"]

LOG = logging.getLogger(__name__)
Digest = Annotated[str, Path(description=ADDRESS)]


def create_app(service: Service, limits: Limits | None = None, tokens: Tokens | None = None, openapi: bool = False) -> FastAPI:
    """The application that serves one artifact.

    Args:
        limits: what it allows; those of connections take effect through `serve_socket` only.
        tokens: those that open it; None opens it to everybody.
        openapi: whether it serves a description of itself, `/openapi.json`.
    """
    return application(Desk(service, limits or Limits(), tokens), openapi)


def application(desk: Desk, openapi: bool) -> FastAPI:
    """The same for a desk."""
    described_at = "/openapi.json" if openapi else None
    app = FastAPI(title="hecompile", docs_url=None, redoc_url=None, openapi_url=described_at, redirect_slashes=False)
    service = desk.service
    app.state.desk = desk

    def refused(error: ProtocolError, incoming: Incoming | None = None) -> Response:
        """`incoming`: a body that was not read whole, so that nothing more can be understood on its connection."""
        desk.metrics.refusals.labels(reason_of(error)).inc()
        headers = {"Connection": "close"} if incoming is not None else {}
        if error.status == 503:
            headers["Retry-After"] = str(error.retry_after_s if isinstance(error, RefusalError) else 1)
        if error.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        document = {"error": str(error)}
        if incoming is None:
            return JSONResponse(document, status_code=error.status, headers=headers)
        return Parting(document, status_code=error.status, headers=headers, incoming=incoming)

    @app.get("/healthz", responses=HEALTH, summary="Whether the server runs")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "name": service.name, "artifact": service.digest, "encrypted": service.encrypted}

    @app.get("/readyz", responses=HEALTH, summary="Whether another request would be taken now")
    async def ready(request: Request) -> Response:
        try:
            desk.queue.judge()
        except ProtocolError as error:
            return refused(error)
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", responses=REFUSED, response_class=Response, summary="What the server counts, for Prometheus")
    async def metrics(request: Request) -> Response:
        try:
            desk.owner(request)
        except ProtocolError as error:
            return refused(error)
        return Response(desk.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    @app.get("/v1/artifacts/{digest}", responses=GREETING, summary="What is served here, whatever the client asks for")
    async def greet(digest: Digest, request: Request) -> Response:
        try:
            desk.owner(request)
        except ProtocolError as error:
            return refused(error)
        return JSONResponse(service.greeting.document())  # the client compares, and can say what is served here

    @app.post(
        "/v1/artifacts/{digest}/regions/{region}", responses=ANSWERS, response_class=Response,
        openapi_extra=taken("a request's header and ciphertexts"), summary="Evaluate a region",
    )  # fmt: skip
    async def evaluate(digest: Digest, region: str, request: Request) -> Response:
        return await answer(request, lambda incoming: desk.evaluate(request, incoming, digest, region))

    @app.post(
        "/v1/artifacts/{digest}/sessions", responses=OPENED, response_class=Response,
        openapi_extra=taken("evaluation keys"), summary="Leave evaluation keys",
    )  # fmt: skip
    async def open_session(digest: Digest, request: Request) -> Response:
        return await answer(request, lambda incoming: desk.open_session(request, incoming, digest))

    @app.delete(
        "/v1/artifacts/{digest}/sessions/{identifier}", responses=REFUSED, response_class=Response, summary="Forget evaluation keys"
    )
    async def close_session(digest: Digest, identifier: str, request: Request) -> Response:
        try:
            desk.owner(request)
            service.close_session(digest, identifier)
        except ProtocolError as error:
            return refused(error)
        return Response()

    async def answer(request: Request, work: Callable[[Incoming], Awaitable[Buffer]]) -> Response:
        """The response to a request with a body, whatever happens to it."""
        incoming = desk.incoming(request)
        try:
            reply = await work(incoming)
        except GoneError:
            return Response(status_code=499)  # nobody reads it
        except ProtocolError as error:
            await incoming.drain()
            return refused(error, None if incoming.complete else incoming)
        except asyncio.CancelledError:  # uvicorn's, of what is still under way a while after the server was told to stop
            return refused(RefusalError("this server is being stopped", 503, "stopping"))
        except Exception:
            LOG.exception("a request failed: this is a bug of hecompile, please report it")
            return JSONResponse({"error": "this server has a bug"}, status_code=500, headers={"Connection": "close"})
        return Response(reply, media_type="application/octet-stream")

    @app.exception_handler(HTTPException)
    async def elsewhere(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        return JSONResponse({"error": str(error.detail)}, status_code=error.status_code, headers=headers)

    app.add_middleware(Noted, metrics=desk.metrics)
    return app


class Parting(JSONResponse):
    """A refusal while its request is still being sent. The connection ends when the other side has had time to read it."""

    def __init__(self, *args: Any, incoming: Incoming, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._incoming = incoming

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await self._incoming.linger()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Noted:
    """Counts requests and answers. Routes are told by their pattern, since an address may hold a session's identifier."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, metrics, status = time.monotonic(), self._metrics, 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                metrics.sent.inc(len(message.get("body", b"")))
            await send(message)

        await self._app(scope, receive, noted)
        route = getattr(scope.get("route"), "path", "unknown")
        metrics.requests.labels(route, str(status)).inc()
        metrics.request_s.labels(route).observe(time.monotonic() - started)
        LOG.debug("%s %s %d", scope["method"] if route != "unknown" else "-", route, status)
