"""Open files and threads do not grow with the number of threads, models, calls and requests."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

import hecompile
from hecompile.backends.bfv.rings import prime
from hecompile.backends.ckks.processes import evaluated
from hecompile.compiler import Compiled
from hecompile.errors import ProtocolError
from hecompile.runtime.service import load_service
from tests.native.seal_bfv import Judge, SealRing
from tests.networks import tiny_inputs

ENDING_S = 10.0  # what threads of a server and of ONNX Runtime may take to end


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def tasks() -> int:
    return len(os.listdir("/proc/self/task"))


def settles_at(most_descriptors: int, most_tasks: int) -> None:
    """Wait until no more are open than before."""
    deadline = time.monotonic() + ENDING_S
    while (descriptors() > most_descriptors or tasks() > most_tasks) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert descriptors() <= most_descriptors
    assert tasks() <= most_tasks


def encrypt_once() -> None:
    Judge(SealRing(2048, prime(42, 24), 1 << 24)).encrypt(np.zeros((1, 2048), np.int64))


@pytest.mark.promise("descriptors")
def test_short_threads_leave_no_memory_file() -> None:
    encrypt_once()
    before = descriptors()
    for _ in range(50):
        thread = threading.Thread(target=encrypt_once)
        thread.start()
        thread.join()
    assert descriptors() <= before


@pytest.mark.promise("descriptors")
def test_loading_and_closing_leaves_nothing(tiny: Compiled) -> None:
    assert tiny.artifact is not None

    def use() -> None:
        unet = hecompile.load(tiny.artifact or "")
        unet(**tiny_inputs())
        unet.close()

    for _ in range(2):
        use()
    before = descriptors(), tasks()
    for _ in range(20):
        use()
    settles_at(*before)


@pytest.fixture
def url(tiny: Compiled) -> Iterator[str]:
    """A server in a thread of this process."""
    import uvicorn

    from hecompile.runtime.server import create_app

    assert tiny.artifact is not None
    server = uvicorn.Server(uvicorn.Config(create_app(load_service(tiny.artifact)), log_level="error"))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(ENDING_S)
    listener.close()


@pytest.mark.promise("descriptors")
@pytest.mark.fhe
def test_connections_are_closed_with_their_models(tiny: Compiled, url: str) -> None:
    assert tiny.artifact is not None

    def use() -> None:
        unet = hecompile.load(tiny.artifact or "", url)
        unet(**tiny_inputs())
        unet.close()

    for _ in range(3):
        use()
    before = descriptors(), tasks()
    for _ in range(20):
        use()
    settles_at(before[0], before[1] + 2)  # the server keeps threads for its requests


@pytest.mark.parametrize("fails", [False, True])
def test_processes_of_a_batch_leave_no_pipe_and_no_process(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def task(piece: memoryview) -> bytes:
        if fails and bytes(piece) == b"2":
            raise ProtocolError("this piece is bad")
        return bytes(piece)

    children, fork = list[int](), os.fork

    def counted() -> int:
        child = fork()
        children.extend([child] if child else [])
        return child

    monkeypatch.setattr(os, "fork", counted)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2})
    pieces = [memoryview(str(place).encode()) for place in range(6)]
    before = descriptors()
    for _ in range(5):
        if fails:
            with pytest.raises(ProtocolError, match="bad"):
                evaluated(task, pieces)
        else:
            assert evaluated(task, pieces) == [bytes(piece) for piece in pieces]
    assert descriptors() <= before
    assert len(children) == 10
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)
