"""The page at work: its artifacts, compiled once, and its application on a port of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hecompile.demo.artifacts import Artifacts
from hecompile.demo.drawing import Studio
from hecompile.demo.running import opened, page_server
from tests.artifacts import shared


def _compiled(folder: Path) -> Path:
    for policy in ("strict", "min-distortion", "he-diffusion"):
        Artifacts(folder).of(policy, lambda sentence: None)
    return folder


@pytest.fixture(scope="session")
def folder() -> Path:
    """The page's three artifacts."""
    return shared("demo-artifacts", _compiled)


@contextmanager
def page_at_work(folder: Path, server: str | None = None) -> Iterator[tuple[str, Studio]]:
    """The page's address and what draws, answered by a thread of this process; its servers are processes of their own."""
    with opened(folder, server, 0) as (app, listener, studio):
        answering = page_server(app)
        thread = threading.Thread(target=answering.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", studio
        finally:
            answering.should_exit = True
            thread.join()
