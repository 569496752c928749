"""The process that evaluates circuits: it imports Concrete, which the server's own process does not.

Messages come on stdin and are answered on stdout. `load` compiles a circuit from its MLIR, `keys` keeps evaluation
keys, `run` evaluates. Secret keys never come here. Started by `hecompile.backends.concrete.workers`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any, BinaryIO

from hecompile.backends.concrete.circuits import concrete, configuration, specs_text
from hecompile.backends.concrete.messages import read_message, write_message

__all__ = ["Worker", "main"]


class Worker:
    """Circuits by name and keys by session."""

    def __init__(self) -> None:
        self._fhe = concrete()
        self._circuits: dict[str, Any] = {}
        self._keys: dict[str, Any] = {}

    def load(self, name: str, mlir: str, p_error: float, keys: bytes) -> dict[str, Any]:
        """Compile; the specification that came out. `keys` are those of a circuit without lookups: an empty set."""
        server = self._fhe.Server.create(mlir, configuration(p_error))
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


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer messages until the stream ends."""
    worker = Worker()
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
    """Keep stdout for messages: the library's own prints go to stderr."""
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, sink)


if __name__ == "__main__":
    main()
