"""The routes of a server, in FastAPI: evaluation of regions, sessions, health and metrics. A `RequestHandler` does the work."""

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
from hecompile.runtime.serving.client_identity import Tokens
from hecompile.runtime.serving.incoming import Incoming
from hecompile.runtime.serving.limits import Limits
from hecompile.runtime.serving.metrics import CONTENT_TYPE, Metrics
from hecompile.runtime.serving.openapi import ADDRESS, ANSWERS, GREETING, HEALTH, OPENED, REFUSED, binary_request
from hecompile.runtime.serving.refusals import GoneError, RefusalError, reason_of
from hecompile.runtime.serving.request_handler import RequestHandler

__all__ = ["create_app"]

LOG = logging.getLogger(__name__)
Digest = Annotated[str, Path(description=ADDRESS)]


def create_app(service: Service, limits: Limits | None = None, tokens: Tokens | None = None, openapi: bool = False) -> FastAPI:
    """Return the application that serves one artifact.

    Args:
        limits: how much it accepts; those of connections take effect through `serve_socket` only.
        tokens: bearer tokens that it accepts; None serves everybody.
        openapi: whether it serves a description of its routes, `/openapi.json`.
    """
    return application(RequestHandler(service, limits or Limits(), tokens), openapi)


def application(handler: RequestHandler, openapi: bool) -> FastAPI:
    """Return the application for a request handler."""
    described_at = "/openapi.json" if openapi else None
    app = FastAPI(title="hecompile", docs_url=None, redoc_url=None, openapi_url=described_at, redirect_slashes=False)
    service = handler.service
    app.state.handler = handler

    def refused(error: ProtocolError, incoming: Incoming | None = None) -> Response:
        """Return a refusal. `incoming` is a body that was not read to its end, so that its connection must be closed."""
        handler.metrics.refusals.labels(reason_of(error)).inc()
        headers = {"Connection": "close"} if incoming is not None else {}
        if error.status == 503:
            headers["Retry-After"] = str(error.retry_after_s if isinstance(error, RefusalError) else 1)
        if error.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        document = {"error": str(error)}
        if incoming is None:
            return JSONResponse(document, status_code=error.status, headers=headers)
        return EarlyRefusal(document, status_code=error.status, headers=headers, incoming=incoming)

    @app.get("/healthz", responses=HEALTH, summary="Whether the server runs")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "name": service.name, "artifact": service.digest, "encrypted": service.encrypted}

    @app.get("/readyz", responses=HEALTH, summary="Whether another request would be accepted now")
    async def ready(request: Request) -> Response:
        try:
            handler.queue.check()
        except ProtocolError as error:
            return refused(error)
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", responses=REFUSED, response_class=Response, summary="What the server counts, for Prometheus")
    async def metrics(request: Request) -> Response:
        try:
            handler.client_id(request)
        except ProtocolError as error:
            return refused(error)
        return Response(handler.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    @app.get("/v1/artifacts/{digest}", responses=GREETING, summary="Which artifact is served here, whatever digest the path names")
    async def greet(digest: Digest, request: Request) -> Response:
        try:
            handler.client_id(request)
        except ProtocolError as error:
            return refused(error)
        return JSONResponse(service.greeting.document())  # the client compares the digests, and can name what is served here

    @app.post(
        "/v1/artifacts/{digest}/regions/{region}", responses=ANSWERS, response_class=Response,
        openapi_extra=binary_request("a request's header and ciphertexts"), summary="Evaluate a region",
    )  # fmt: skip
    async def evaluate(digest: Digest, region: str, request: Request) -> Response:
        return await answer(request, lambda incoming: handler.evaluate(request, incoming, digest, region))

    @app.post(
        "/v1/artifacts/{digest}/sessions", responses=OPENED, response_class=Response,
        openapi_extra=binary_request("evaluation keys"), summary="Leave evaluation keys",
    )  # fmt: skip
    async def open_session(digest: Digest, request: Request) -> Response:
        return await answer(request, lambda incoming: handler.open_session(request, incoming, digest))

    @app.delete(
        "/v1/artifacts/{digest}/sessions/{identifier}", responses=REFUSED, response_class=Response, summary="Forget evaluation keys"
    )
    async def close_session(digest: Digest, identifier: str, request: Request) -> Response:
        try:
            handler.client_id(request)
            service.close_session(digest, identifier)
        except ProtocolError as error:
            return refused(error)
        return Response()

    async def answer(request: Request, work: Callable[[Incoming], Awaitable[Buffer]]) -> Response:
        """Return the response to a request with a body: its reply, or a refusal."""
        incoming = handler.incoming(request)
        try:
            reply = await work(incoming)
        except GoneError:
            return Response(status_code=499)  # the client is gone, and nobody reads this
        except ProtocolError as error:
            await incoming.drain()
            return refused(error, None if incoming.complete else incoming)
        except asyncio.CancelledError:  # uvicorn cancels what is still under way some seconds after the server was told to stop
            return refused(RefusalError("this server is being stopped", 503, "stopping"))
        except Exception:
            LOG.exception("a request failed: this is a bug of hecompile, please report it")
            return JSONResponse({"error": "this server has a bug"}, status_code=500, headers={"Connection": "close"})
        return Response(reply, media_type="application/octet-stream")

    @app.exception_handler(HTTPException)
    async def elsewhere(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        return JSONResponse({"error": str(error.detail)}, status_code=error.status_code, headers=headers)

    app.add_middleware(RequestCounter, metrics=handler.metrics)
    return app


class EarlyRefusal(JSONResponse):
    """A refusal that is sent while its request is still arriving. The connection is closed after the client had time to read the
    refusal."""

    def __init__(self, *args: Any, incoming: Incoming, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._incoming = incoming

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        await self._incoming.linger()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class RequestCounter:
    """Counts requests and replies by route. A route is named by its pattern, since a path can contain the identifier of a
    session."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, metrics, status = time.monotonic(), self._metrics, 0

        async def counted_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                metrics.sent.inc(len(message.get("body", b"")))
            await send(message)

        await self._app(scope, receive, counted_send)
        route = getattr(scope.get("route"), "path", "unknown")
        metrics.requests.labels(route, str(status)).inc()
        metrics.request_s.labels(route).observe(time.monotonic() - started)
        LOG.debug("%s %s %d", scope["method"] if route != "unknown" else "-", route, status)
