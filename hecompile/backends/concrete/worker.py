"""The process that evaluates circuits: it imports Concrete, which the server's own process does not.

Messages come on stdin and are answered on stdout. `load` compiles a circuit from its MLIR, `keys` keeps evaluation
keys, `run` evaluates. Secret keys never come here. Started by `hecompile.backends.concrete.worker_process` with a folder for
temporary files, and "gently" if it should be ready with a lower priority.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, TypeVar

from hecompile.backends.concrete.library import concrete, configuration, specs_text
from hecompile.backends.concrete.messages import read_message, write_message

__all__ = ["LOWER", "Worker", "gently", "main"]

LOWER = 5  # niceness: a quarter of a core that a job wants, so that it comes to an end on a busy machine too
Result = TypeVar("Result")


def gently(task: Callable[[], Result]) -> Result:
    """The task's result, by a thread of a lower priority: a whole process could not raise its own again."""

    def lowered() -> Result:
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + LOWER)
        return task()

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(lowered).result()


class Worker:
    """Circuits by name and keys by session."""

    def __init__(self) -> None:
        self._fhe = concrete()
        self._circuits: dict[str, Any] = {}
        self._keys: dict[str, Any] = {}

    def load(self, name: str, mlir: str, p_error: float, keys: bytes, low: bool = False) -> dict[str, Any]:
        """Compile, with a lower priority if `low`; the specification that came out. `keys` are those of a circuit without
        lookups: an empty set."""

        def compiled() -> Any:
            return self._fhe.Server.create(mlir, configuration(p_error))

        server = gently(compiled) if low else compiled()
        self._circuits[name] = server
        if keys:
            self.keys(name, keys)
        return {"specs": specs_text(server.client_specs)}

    def keys(self, session: str, data: bytes) -> dict[str, Any]:
        """Keep a session's keys."""
        self._keys[session] = self._fhe.EvaluationKeys.deserialize(data)
        return {}

    def forget(self, session: str) -> dict[str, Any]:
        """Drop a session's keys."""
        self._keys.pop(session, None)
        return {}

    def run(self, name: str, session: str, ciphertexts: list[bytes]) -> dict[str, Any]:
        """Evaluate on each ciphertext in turn."""
        server = self._circuits[name]
        keys = self._keys[session or name]
        values = [self._fhe.Value.deserialize(each) for each in ciphertexts]
        started = time.process_time()
        results = [server.run(value, evaluation_keys=keys).serialize() for value in values]
        return {"results": results, "cpu_s": time.process_time() - started}


def serve(worker: Worker, source: BinaryIO, sink: BinaryIO) -> None:
    """Answer messages until the stream ends."""
    actions: dict[str, Callable[..., dict[str, Any]]] = {
        "load": worker.load,
        "keys": worker.keys,
        "forget": worker.forget,
        "run": worker.run,
    }
    write_message(sink, {"ready": True})
    while (message := read_message(source)) is not None:
        action = actions[message.pop("do")]
        try:
            answer = action(**message)
        except Exception as error:  # Concrete's C++ raises RuntimeError and others: the parent reports them
            answer = {"error": f"{type(error).__name__}: {error}"}
        write_message(sink, answer)


def main() -> None:
    """Keep stdout for messages: the library's own prints go to stderr. An interrupt is meant for the server, which ends this."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    folder, *how = sys.argv[1:]
    tempfile.tempdir = folder
    try:
        serve(gently(Worker) if how else Worker(), sys.stdin.buffer, sink)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
