"""Stands in for `hecompile.backends.concrete.worker`: a circuit's MLIR is how long it loads, a job's ciphertext what it does."""

from __future__ import annotations

import os
import shutil
import sys
import time

from hecompile.backends.concrete.jobs import Job, ServerCircuit
from hecompile.backends.concrete.messages import read_message, write_message

COMMAND = (sys.executable, "-m", "tests.backends.concrete.stand_in_worker")


def job(name: str, task: str = "sleep 0", owner: object = None, load: str = "0 0", session: str = "") -> Job:
    """A job that does its task and results in the worker's process identifier. `load`: seconds that its circuit takes to load,
    in a request and in the background."""
    return Job(ServerCircuit(name, load, 0.5, "specs"), (task.encode(),), session, session.encode(), "key", owner)


def serve() -> None:
    """Answer as a worker does. Tasks: "sleep SECONDS", "error", "die", "nonsense", "few"; keys that say "bad" or "die" do that."""
    sink = sys.stdout.buffer
    write_message(sink, {"ready": True})
    while (message := read_message(sys.stdin.buffer)) is not None:
        answer: dict[str, object] = {}
        if message["do"] == "load":
            time.sleep(float(message["mlir"].split()[message["low"]]))
            answer = {"specs": "specs"}
        elif message["do"] == "keys":
            if message["data"] == b"die":
                os._exit(1)
            if message["data"] == b"bad":
                answer = {"error": "RuntimeError: no keys"}
        elif message["do"] == "run":
            task, _, rest = message["ciphertexts"][0].decode().partition(" ")
            if task == "die":
                os._exit(1)
            if task == "nonsense":
                sink.write(b"\x02" + bytes(7) + b"\xc1\xc1")
                sink.flush()
                continue
            time.sleep(float(rest or 0))
            answer = {"results": [] if task == "few" else [str(os.getpid()).encode()], "cpu_s": 0.0}
            if task == "error":
                answer = {"error": "RuntimeError: no ciphertext"}
        write_message(sink, answer)


if __name__ == "__main__":
    try:
        serve()
    finally:
        shutil.rmtree(sys.argv[1], ignore_errors=True)
