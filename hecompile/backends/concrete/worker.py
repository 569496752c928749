"""The worker process that evaluates circuits. It imports Concrete, which the server's own process does not.

Messages come on stdin and are answered on stdout: `load` compiles a circuit from its MLIR, `keys` keeps evaluation keys, `forget`
drops them, and `run` evaluates. Secret keys never come here. `hecompile.backends.concrete.worker_process` starts this process
with a folder for temporary files, and with the argument "gently" if it should start at a lower priority.
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

LOWER = 5  # niceness: beside a job it still gets about a quarter of a core, so that it ends on a busy machine too
Result = TypeVar("Result")


def gently(task: Callable[[], Result]) -> Result:
    """Run a task in a thread of lower priority, and return its result.

    Only a thread's priority is lowered, since a process may not raise its own again.
    """

    def lowered() -> Result:
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + LOWER)
        return task()

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(lowered).result()


class Worker:
    """The worker's circuits by name and evaluation keys by session. Its methods answer the messages of the same names."""

    def __init__(self) -> None:
        self._fhe = concrete()
        self._circuits: dict[str, Any] = {}
        self._keys: dict[str, Any] = {}

    def load(self, name: str, mlir: str, p_error: float, keys: bytes, low: bool = False) -> dict[str, Any]:
        """Compile a circuit, at a lower priority if `low`, and return the specification that came out.

        `keys` are the empty set of evaluation keys of a circuit without table lookups, or empty.
        """

        def compiled() -> Any:
            return self._fhe.Server.create(mlir, configuration(p_error))

        server = gently(compiled) if low else compiled()
        self._circuits[name] = server
        if keys:
            self.keys(name, keys)
        return {"specs": specs_text(server.client_specs)}

    def keys(self, session: str, data: bytes) -> dict[str, Any]:
        """Keep the keys of a session."""
        self._keys[session] = self._fhe.EvaluationKeys.deserialize(data)
        return {}

    def forget(self, session: str) -> dict[str, Any]:
        """Drop the keys of a session."""
        self._keys.pop(session, None)
        return {}

    def run(self, name: str, session: str, ciphertexts: list[bytes]) -> dict[str, Any]:
        """Evaluate a circuit on each ciphertext in turn. Returns the results, and the CPU seconds that they took."""
        server = self._circuits[name]
        keys = self._keys[session or name]
        values = [self._fhe.Value.deserialize(ciphertext) for ciphertext in ciphertexts]
        started = time.process_time()
        results = [server.run(value, evaluation_keys=keys).serialize() for value in values]
        return {"results": results, "cpu_s": time.process_time() - started}


def serve(worker: Worker, source: BinaryIO, sink: BinaryIO) -> None:
    """Answer messages from `source` on `sink` until the stream ends."""
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
        except Exception as error:  # Concrete's C++ raises many types, which the parent process reports
            answer = {"error": f"{type(error).__name__}: {error}"}
        write_message(sink, answer)


def main() -> None:
    """Serve on stdin and stdout, with the library's own prints sent to stderr.

    Interrupts are left to the server, which ends this.
    """
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
