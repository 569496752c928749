"""The server: FastAPI in front of a `Service`. Imports neither torch nor diffusers, and nothing that holds a secret key."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from hecompile.errors import ProtocolError
from hecompile.runtime.service import Service

__all__ = ["bind", "create_app", "is_loopback", "serve_socket"]

LOG = logging.getLogger(__name__)
QUEUE = 16  # requests that may wait; the next one is told to come back
SLOWEST_UPLOAD = 1 << 20  # bytes of keys per second


def _refusal(status: int, reason: str) -> JSONResponse:
    headers = {"Retry-After": "1"} if status == 503 else {}
    return JSONResponse({"error": reason}, status_code=status, headers=headers)


async def _body(request: Request, limit: int) -> bytearray:
    """The body, given up as soon as it is longer than any well-formed one."""
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise ProtocolError(f"a request may have {limit} bytes", status=413)
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > limit:
            raise ProtocolError(f"a request may have {limit} bytes", status=413)
        body += chunk
    return body


async def _unless_gone(request: Request, task: Callable[[], bytes], cancel: Callable[[], None]) -> bytes:
    """The task's result; it is cancelled once nobody waits for it any more."""
    running = asyncio.ensure_future(run_in_threadpool(task))
    gone = asyncio.ensure_future(request.receive())  # after the body nothing comes but the end of the connection
    done, _ = await asyncio.wait({running, gone}, return_when=asyncio.FIRST_COMPLETED)
    if running not in done:
        cancel()
    gone.cancel()
    return await running


def create_app(service: Service, body_timeout_s: float = 30.0) -> FastAPI:
    """Routes of one artifact: its regions, the sessions that keep keys for them, and `GET /healthz`."""
    app = FastAPI(title="hecompile", docs_url=None, redoc_url=None, openapi_url=None)
    turn = asyncio.Lock()  # one product uses all cores; more at once would only be slower
    waiting = 0

    @app.get("/healthz")
    async def health() -> dict[str, object]:
        return {"status": "ok", "name": service.name, "artifact": service.digest, "encrypted": service.encrypted}

    @app.get("/v1/artifacts/{digest}")
    async def greet(digest: str) -> dict[str, object]:
        return service.greeting.document()  # whatever the client asks for: it compares, and can say what is served here

    async def answer(
        request: Request,
        limit: int,
        timeout_s: float,
        task: Callable[[bytearray], bytes],
        cancel: Callable[[], None] = lambda: None,
    ) -> Response:
        """Read the body within its limits, wait for a turn, and run the task on it."""
        nonlocal waiting
        if waiting >= QUEUE:
            return _refusal(503, f"{QUEUE} requests are waiting already")
        waiting += 1
        try:
            body = await asyncio.wait_for(_body(request, limit), timeout_s)
            async with turn:
                reply = await _unless_gone(request, lambda: task(body), cancel)
        except TimeoutError:
            return _refusal(408, f"the request did not arrive within {timeout_s:g} seconds")
        except ProtocolError as error:
            return _refusal(error.status, str(error))
        finally:
            waiting -= 1
        return Response(reply, media_type="application/octet-stream")

    @app.post("/v1/artifacts/{digest}/regions/{region}")
    async def evaluate(digest: str, region: str, request: Request) -> Response:
        return await answer(
            request,
            service.body_limit,
            body_timeout_s,
            lambda body: service.answer(digest, region, bytes(body)),
            lambda: service.cancel(region),
        )

    @app.post("/v1/artifacts/{digest}/sessions")
    async def open_session(digest: str, request: Request) -> Response:
        limit = service.key_limit
        try:
            service.sessions.reserve(limit)
        except ProtocolError as error:
            return _refusal(error.status, str(error))
        timeout_s = body_timeout_s + limit / SLOWEST_UPLOAD
        return await answer(request, limit, timeout_s, lambda body: service.open_session(digest, body).encode())

    @app.delete("/v1/artifacts/{digest}/sessions/{identifier}")
    async def close_session(digest: str, identifier: str) -> Response:
        try:
            service.close_session(digest, identifier)
        except ProtocolError as error:
            return _refusal(error.status, str(error))
        return Response()

    @app.middleware("http")
    async def note(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call_next(request)
        route = request.scope.get("route")  # its pattern, not the address: that may hold a session's identifier
        LOG.debug("%s %s %d", request.method, getattr(route, "path", "unknown"), response.status_code)
        return response

    return app


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `OSError`.

    The protocol is named: only then asyncio turns Nagle's algorithm off, with which every reply waits 40 ms.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine can reach a listening socket."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def serve_socket(service: Service, listener: socket.socket) -> None:
    """Serve on a bound socket until interrupted."""
    import uvicorn

    config = uvicorn.Config(create_app(service), log_level="warning", access_log=False)
    uvicorn.Server(config).run(sockets=[listener])
