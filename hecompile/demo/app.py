"""The routes of the page: its files, what it may offer, and drawing, which answers with a line of JSON for whatever happens."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from hecompile.demo.guard import Guard
from hecompile.demo.wishes import LONGEST_BODY, RefusedError, Wish, read_drawing, read_wish
from hecompile.errors import HecompileError

__all__ = ["Draws", "create_app"]

Say = Callable[[dict[str, object]], None]
Work = Callable[[Say, threading.Event], None]

LOG = logging.getLogger(__name__)
PAGE = Path(__file__).parent / "page"
FILES = {"/": "index.html", "/style.css": "style.css", "/page.js": "page.js"}
LINES = "application/x-ndjson"


class Draws(Protocol):
    """What the page needs of the object that draws its pictures, which is a `hecompile.demo.drawing.Studio`."""

    def draw(self, wish: Wish, say: Say, gone: threading.Event) -> None:
        """Draw a picture; `say` is called with a record of whatever happens."""
        ...

    def show_others(self, drawing: str, say: Say, gone: threading.Event) -> None:
        """Call `say` with a record of what each other policy would have revealed of a drawing."""
        ...


def create_app(studio: Draws, worker: Executor, names: Iterable[str], about: dict[str, object]) -> FastAPI:
    """The page's application.

    Args:
        studio: draws the pictures, one at a time.
        worker: the one thread that the studio belongs to.
        names: what the `Host` header may say.
        about: what the page is told of model, policies and limits, at `/about`.
    """
    app = FastAPI(title="hecompile demo", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    at_work = threading.Lock()

    for path, name in FILES.items():
        app.add_api_route(path, _file(name), methods=["GET"])

    @app.get("/about")
    async def tell() -> dict[str, object]:
        return about

    @app.post("/draw")
    async def draw(request: Request) -> Response:
        return await told(request, lambda body: partial(studio.draw, read_wish(body)))

    @app.post("/others")
    async def others(request: Request) -> Response:
        return await told(request, lambda body: partial(studio.show_others, read_drawing(body)))

    async def told(request: Request, read: Callable[[bytes], Work]) -> Response:
        """The answer to a request with a body, which `read` turns into work."""
        try:
            if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
                raise RefusedError("what is asked is sent as application/json", 415)
            work = read(await _body(request))
            if not at_work.acquire(blocking=False):
                raise RefusedError("another picture is being drawn: wait until it is there", 409)
        except RefusedError as error:
            return JSONResponse({"error": str(error)}, status_code=error.status)
        try:
            return StreamingResponse(_told(worker, work, at_work), media_type=LINES)
        except RuntimeError:  # from a pool of threads that takes nothing more
            at_work.release()
            return JSONResponse({"error": "the demo is being stopped"}, status_code=503)

    @app.exception_handler(HTTPException)
    async def elsewhere(request: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": "there is nothing here"}, status_code=error.status_code, headers=dict(error.headers or {}))

    app.add_middleware(Guard, names=names)
    return app


def _file(name: str) -> Any:
    """What answers with a file of the page."""

    async def answer() -> FileResponse:
        return FileResponse(PAGE / name)

    return answer


async def _body(request: Request) -> bytes:
    """The request's body. Raises `RefusedError` as soon as it is too long."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LONGEST_BODY:
            raise RefusedError(f"the body of a request has at most {LONGEST_BODY} bytes", 413)
    return body


def _told(worker: Executor, work: Work, at_work: threading.Lock) -> AsyncIterator[bytes]:
    """Start work, and yield a line of JSON for each of its records. If the reader leaves, the work ends after the current request.

    Args:
        at_work: held by the caller; released when the work has ended.

    Raises:
        RuntimeError: if the worker takes nothing more.
    """
    loop, gone = asyncio.get_running_loop(), threading.Event()
    records = asyncio.Queue[dict[str, object] | None]()

    def say(record: dict[str, object] | None) -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it whoever would read
            loop.call_soon_threadsafe(records.put_nowait, record)

    def attended() -> None:
        try:
            _attended(work, say, gone)
        finally:
            at_work.release()
            say(None)

    async def lines() -> AsyncIterator[bytes]:
        try:
            while (record := await records.get()) is not None:
                yield json.dumps(record).encode() + b"\n"
        finally:
            gone.set()

    worker.submit(attended)
    return lines()


def _attended(work: Work, say: Say, gone: threading.Event) -> None:
    """Do the work, and report an error as a record. The message of an unknown error is left out, since it may quote a secret."""
    from hecompile.demo.drawing import LeftError

    try:
        work(say, gone)
    except LeftError:
        return
    except HecompileError as error:
        say({"event": "failed", "message": _one_line(str(error))})
    except Exception as error:
        LOG.error("drawing failed with %s, a bug:\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
        say(
            {
                "event": "failed",
                "message": f"drawing failed with {type(error).__name__}: this is a bug of hecompile, please report it",
            }
        )


def _one_line(message: str) -> str:
    """An error as the page shows it: findings one after another, help in brackets."""
    rows = [row.strip() for row in message.splitlines() if row.strip()]
    return " ".join(f"({row})" if row.startswith("help: ") else row.removeprefix("error: ") for row in rows)
