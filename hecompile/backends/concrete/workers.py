"""Worker processes from the server's side: started when first needed, given circuits once, killed when they take too long."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hecompile.errors import ProtocolError

__all__ = ["Done", "Job", "ServerCircuit", "Workers", "workers"]

PIPE_BYTES = 1 << 20
START_S = 120.0  # importing Concrete takes ten seconds on a slow machine


@dataclass(frozen=True)
class ServerCircuit:
    """What a worker compiles, named by its checksum."""

    name: str
    mlir: str
    p_error: float
    specs: str
    keys: bytes = b""  # the empty set of evaluation keys, of a circuit without lookups


@dataclass(frozen=True)
class Job:
    """A circuit on some ciphertexts, with the keys of a session or none."""

    circuit: ServerCircuit
    ciphertexts: tuple[bytes, ...]
    session: str = ""
    keys: bytes = b""


@dataclass(frozen=True)
class Done:
    """A job's results, serialised, and the CPU seconds that they took."""

    results: list[bytes]
    cpu_s: float


def _widen(process: subprocess.Popen[bytes]) -> None:
    """Pipes of a megabyte: an answer of ten would otherwise change sides 200 times."""
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):  # the user's pipes may be limited
                fcntl.fcntl(pipe or 0, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


class _Process:
    """One worker."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._loaded: set[str] = set()
        self._sessions: list[str] = []

    def _start(self) -> subprocess.Popen[bytes]:
        self._close_pipes()
        command = [sys.executable, "-m", "hecompile.backends.concrete.worker"]
        # waiting threads sleep: those of one circuit leave the cores to the other workers
        environment = os.environ | {"OMP_NUM_THREADS": str(cores()), "OMP_WAIT_POLICY": "passive"}
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        _widen(process)
        self._process, self._loaded, self._sessions = process, set(), []
        if self._receive(process, START_S, "starting") != {"ready": True}:
            raise ProtocolError("a worker of Concrete does not start: is the extra 'concrete' installed?", status=503)
        return process

    def _receive(self, process: subprocess.Popen[bytes], limit_s: float, what: str) -> dict[str, Any]:
        from hecompile.backends.concrete.messages import read_message

        late = threading.Event()

        def kill() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(limit_s, kill)
        timer.start()
        try:
            assert process.stdout is not None
            message = read_message(process.stdout)
        finally:
            timer.cancel()
        if message is None:
            self.stop()
            reason = (
                f"took more than {limit_s:g} seconds and was stopped" if late.is_set() else "ended: cancelled, or out of memory"
            )
            raise ProtocolError(f"{what}: the worker {reason}", status=503)
        return message

    def _ask(self, limit_s: float, what: str, **message: Any) -> dict[str, Any]:
        from hecompile.backends.concrete.messages import write_message

        process = self._process if self._process is not None and self._process.poll() is None else self._start()
        assert process.stdin is not None
        try:
            write_message(process.stdin, message)
        except BrokenPipeError:
            self.stop()
            raise ProtocolError(f"{what}: the worker is gone", status=503) from None
        answer = self._receive(process, limit_s, what)
        if "error" in answer:
            raise ProtocolError(f"{what}: Concrete says {answer['error']}")
        return answer

    def load(self, circuit: ServerCircuit) -> None:
        if self._process is None or self._process.poll() is not None:
            self._start()
        if circuit.name in self._loaded:
            return
        found = self._ask(
            START_S, "loading a circuit", do="load", name=circuit.name, mlir=circuit.mlir, p_error=circuit.p_error,
            keys=circuit.keys,
        )  # fmt: skip
        if found["specs"] != circuit.specs:
            raise ProtocolError("this Concrete chooses other parameters than the one that compiled: compile again here")
        self._loaded.add(circuit.name)

    def run(self, job: Job, limit_s: float) -> Done:
        with self._lock:
            self.load(job.circuit)
            if job.session and job.session not in self._sessions:
                for old in self._sessions:  # one client's keys at a time: they are large
                    self._ask(limit_s, "dropping keys", do="forget", session=old)
                self._sessions = []
                self._ask(limit_s, "loading keys", do="keys", session=job.session, data=job.keys)
                self._sessions = [job.session]
            answer = self._ask(
                limit_s, "evaluating", do="run", name=job.circuit.name, session=job.session, ciphertexts=list(job.ciphertexts)
            )
            return Done(list(answer["results"]), float(answer["cpu_s"]))

    def stop(self) -> None:
        """End the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _close_pipes(self) -> None:
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()


class Workers:
    """A fixed number of worker processes and the jobs that wait for them."""

    def __init__(self, count: int) -> None:
        self._processes = [_Process() for _ in range(count)]
        self._idle: queue.LifoQueue[_Process] = queue.LifoQueue()  # the last one used has its circuits loaded
        for process in self._processes:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(count)

    def run(self, jobs: Sequence[Job], limit_s: float) -> list[Done]:
        """Every job's results, in order. Raises `ProtocolError` if one is refused, fails, or takes longer than its limit."""
        try:
            return list(self._threads.map(lambda job: self._one(job, limit_s), jobs))
        except (KeyboardInterrupt, SystemExit):
            self.cancel()  # the interpreter's end waits for the threads, and these for what is evaluated
            raise

    def _one(self, job: Job, limit_s: float) -> Done:
        process = self._idle.get()
        try:
            return process.run(job, limit_s)
        finally:
            self._idle.put(process)

    def cancel(self) -> None:
        """Stop whatever is being evaluated; the next job starts a worker anew."""
        for process in self._processes:
            process.stop()

    def close(self) -> None:
        """Stop all processes for good."""
        self.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)


def cores() -> int:
    """Cores that this process may use."""
    return max(1, len(os.sched_getaffinity(0)))


@lru_cache(maxsize=1)
def workers() -> Workers:
    """This process's workers, one per core."""
    found = Workers(cores())
    atexit.register(found.close)
    return found


os.register_at_fork(after_in_child=workers.cache_clear)  # the parent's would get the messages of two processes
