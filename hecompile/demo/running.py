"""Puts the page together and serves it on loopback until interrupted."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from hecompile.demo.app import create_app
from hecompile.demo.artifacts import BUDGET, TAU, Artifacts
from hecompile.demo.drawing import Studio
from hecompile.demo.guard import own_names
from hecompile.demo.wishes import GUIDANCE, LONGEST_PROMPT, POLICIES, SEEDS, STEPS
from hecompile.errors import HecompileError
from hecompile.runtime.server import bind

__all__ = ["HOST", "about", "opened", "page_server"]

HOST = "127.0.0.1"
STOP_S = 2  # seconds that an answer under way has when the command ends
EXAMPLES = (
    "a green triangle left of a white cross",
    "a large orange cross on a blue background",
    "a small yellow square below a black circle",
)


def about(server: str | None) -> dict[str, object]:
    """What the page offers: policies, limits, and the words that the model knows."""
    from hecompile.models.shapes import GUIDANCE as DEFAULT_GUIDANCE
    from hecompile.models.shapes import STEPS as DEFAULT_STEPS
    from hecompile.models.shapes.scenes import COLOURS, RELATIONS, SHAPES, SIZES

    return {
        "policies": list(POLICIES[:1] if server else POLICIES),
        "server": server,
        "examples": list(EXAMPLES),
        "words": {"sizes": list(SIZES), "colours": list(COLOURS), "shapes": list(SHAPES), "relations": list(RELATIONS)},
        "longest_prompt": LONGEST_PROMPT,
        "steps": [*STEPS, DEFAULT_STEPS],
        "guidance": [*GUIDANCE, DEFAULT_GUIDANCE],
        "seeds": list(SEEDS),
        "tau": TAU,
        "budget": BUDGET,
    }


@contextmanager
def opened(
    folder: Path, server: str | None, port: int, tell: Callable[[str], None] = lambda sentence: None
) -> Iterator[tuple[FastAPI, socket.socket, Studio]]:
    """A context that gives the page's application, its listening socket, and the studio that draws. It ends all of them.

    Args:
        folder: where artifacts are kept.
        server: URL of a server of the artifact for `strict`; None starts servers here.
        port: of the page; 0 takes a free one.
        tell: called with a sentence before something that takes long.

    Raises:
        HecompileError: if the port cannot be used, the model cannot be compiled, or the server does not serve its artifact.
    """
    try:
        listener = bind(HOST, port)
    except OSError as error:
        raise HecompileError(f"cannot listen on {HOST}:{port}: {error.strerror}") from error
    with listener, ThreadPoolExecutor(1, "drawing") as worker:
        studios: list[Studio] = []  # what was made, also where an interruption comes before it is handed over

        def close() -> None:
            for studio in studios:
                studio.close()

        worker.submit(int).result()  # the thread runs before anything is made: an interrupted start of it would leave two
        try:
            worker.submit(lambda: studios.append(Studio(Artifacts(folder), server, tell))).result()
            names = own_names(listener.getsockname()[1])
            yield create_app(studios[0], worker, names, about(server)), listener, studios[0]
        finally:
            worker.submit(close).result()  # on the same thread, after its making


def page_server(app: FastAPI) -> uvicorn.Server:
    """What answers for the application: `run(sockets=[listener])` until interrupted, or until `should_exit` is set."""
    config = uvicorn.Config(
        app, loop="asyncio", ws="none", lifespan="off", log_level="warning", access_log=False, server_header=False,
        proxy_headers=False, timeout_graceful_shutdown=STOP_S,
    )  # fmt: skip
    return uvicorn.Server(config)
