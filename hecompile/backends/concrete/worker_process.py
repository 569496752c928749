"""One worker process from the server's side: started, given circuits and keys, asked, killed when it takes too long.

Measured with Concrete 2.10: a worker takes 320 MiB (180 of them its own), a circuit of a small layer less than one more, evaluation
keys five times their bytes once they were used, those of one client at a time. Starting takes 2 to 5 seconds, a circuit a quarter
of a second.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

from hecompile.backends.concrete.jobs import Done, Job, ServerCircuit
from hecompile.backends.concrete.messages import read_message, write_message
from hecompile.errors import ProtocolError

__all__ = ["COMMAND", "WorkerProcess", "cores"]

COMMAND = (sys.executable, "-m", "hecompile.backends.concrete.worker")
PIPE_BYTES = 1 << 20
START_S = 120.0  # importing Concrete takes ten seconds on a slow machine


def cores() -> int:
    """Cores that this process may use."""
    return max(1, len(os.sched_getaffinity(0)))


@contextlib.contextmanager
def _broken_pipes_as_errors() -> Iterator[None]:
    """Within it a broken pipe is an `OSError`. Elsewhere it is the end of a process in which Concrete has run a circuit, as
    compiling does: its library handles the signal."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
    try:
        yield
    finally:
        if signal.SIGPIPE not in before:
            signal.sigtimedwait({signal.SIGPIPE}, 0)  # which takes it back
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPIPE})


class WorkerProcess:
    """A process that may not have been started yet, or have ended. One thread asks it at a time; any thread may kill it."""

    def __init__(self, command: tuple[str, ...] = COMMAND) -> None:
        self.started = 0  # how often
        self.start_s = 0.0  # that the last start took
        self.circuits: dict[str, float] = {}  # loaded ones, and the seconds that each took
        self.sessions: list[str] = []  # whose keys are loaded
        self._command, self._closed = command, False
        self._lock = threading.Lock()  # of what follows
        self._process: subprocess.Popen[bytes] | None = None
        self._folder, self._killed = "", False

    @property
    def alive(self) -> bool:
        """Whether the process runs, and was not killed: until it has ended it looks as if it ran."""
        process = self._process
        return process is not None and not self._killed and process.poll() is None

    @property
    def replacement_s(self) -> float:
        """Seconds that another process with the same circuits takes."""
        return self.start_s + sum(self.circuits.values())

    def start(self, gently: bool = False) -> None:
        """Start it if it does not run; `gently`: with a lower priority until it is ready. Raises `ProtocolError`."""
        if self.alive:
            return
        self._clear()
        self.circuits, self.sessions, started = {}, [], time.monotonic()
        with self._lock:
            if self._closed:
                raise ProtocolError("the workers of Concrete were closed", status=503)
            try:
                self._process = self._opened(gently)
            except OSError as error:
                raise ProtocolError(f"the server cannot start a process: {error.strerror}", status=503) from error
        self.started += 1
        if self._exchange(START_S, "starting", None) != {"ready": True}:
            self.kill()
            raise ProtocolError("a worker of Concrete does not start: is the extra 'concrete' installed?", status=503)
        self.start_s = time.monotonic() - started

    def _opened(self, gently: bool) -> subprocess.Popen[bytes]:
        """A process with a folder of its own for what it compiles, which is removed with it."""
        self._folder = tempfile.mkdtemp(prefix="hecompile-worker-")
        # waiting threads sleep: those of one circuit leave the cores to the other workers
        environment = os.environ | {"OMP_NUM_THREADS": str(cores()), "OMP_WAIT_POLICY": "passive", "TMPDIR": self._folder}
        process = subprocess.Popen(
            [*self._command, self._folder, *(["gently"] if gently else [])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
        if hasattr(fcntl, "F_SETPIPE_SZ"):  # an answer of ten megabytes would otherwise change sides 200 times
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):  # the user's pipes may be limited
                    fcntl.fcntl(pipe or 0, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        return process

    def load(self, circuit: ServerCircuit, gently: bool = False) -> None:
        """Compile a circuit there unless that was done. Raises `ProtocolError`."""
        self.start(gently)
        if circuit.name in self.circuits:
            return
        started = time.monotonic()
        answer = self._ask(
            START_S, "loading a circuit", do="load", name=circuit.name, mlir=circuit.mlir, p_error=circuit.p_error,
            keys=circuit.keys, low=gently,
        )  # fmt: skip
        if answer.get("specs") != circuit.specs:
            raise ProtocolError("this Concrete chooses other parameters than the one that compiled: compile again here")
        self.circuits[circuit.name] = time.monotonic() - started

    def load_keys(self, job: Job, limit_s: float) -> None:
        """Keep the keys of a job's session and nobody else's: they are large. Raises `ProtocolError`."""
        if not job.session or job.session in self.sessions:
            return
        for old in self.sessions:
            self._ask(limit_s, "dropping keys", do="forget", session=old)
        self.sessions = []
        self._ask(limit_s, f"loading key '{job.key_name}'", do="keys", session=job.session, data=job.keys)
        self.sessions = [job.session]

    def evaluate(self, job: Job, limit_s: float) -> Done:
        """A job's results, its circuit and keys being loaded. Raises `ProtocolError`."""
        wanted = list(job.ciphertexts)
        answer = self._ask(limit_s, "evaluating", do="run", name=job.circuit.name, session=job.session, ciphertexts=wanted)
        results, cpu_s = answer.get("results"), answer.get("cpu_s")
        if not isinstance(results, list) or not isinstance(cpu_s, float) or len(results) != len(wanted):
            self.kill()
            raise ProtocolError("evaluating: the worker answers nonsense", status=503)
        return Done([bytes(result) for result in results], cpu_s)

    def _ask(self, limit_s: float, what: str, **message: Any) -> dict[str, Any]:
        answer = self._exchange(limit_s, what, message)
        if "error" in answer:
            raise ProtocolError(f"{what}: Concrete says {str(answer['error'])[:200]}")
        return answer

    def _exchange(self, limit_s: float, what: str, message: dict[str, Any] | None) -> dict[str, Any]:
        """The answer to a message, or the process's first. It is killed if both take longer than the limit."""
        process, late = self._process, threading.Event()
        if process is None or process.stdin is None or process.stdout is None:
            raise ProtocolError(f"{what}: the workers of Concrete were closed", status=503)

        def kill() -> None:
            late.set()
            process.kill()

        timer, answer = threading.Timer(limit_s, kill), None
        timer.daemon = True
        timer.start()
        try:
            if message is not None:
                with _broken_pipes_as_errors():
                    write_message(process.stdin, message)
            answer = read_message(process.stdout)
        except (OSError, ValueError, MemoryError):  # its pipe is broken, or was closed here
            answer = None
        finally:
            timer.cancel()
        if answer is None:
            self._clear()
            reason = f"took more than {limit_s:g} seconds and was stopped" if late.is_set() else "ended: stopped, or out of memory"
            raise ProtocolError(f"{what}: the worker {reason}", status=503)
        return answer

    def kill(self) -> None:
        """End the process, whatever it does. Returns at once."""
        with self._lock:
            if self._process is not None:
                self._killed = True
                self._process.kill()

    def _clear(self) -> None:
        """Leave nothing of the process behind."""
        with self._lock:
            process, folder = self._process, self._folder
            self._process, self._folder, self._killed = None, "", False
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError), _broken_pipes_as_errors():  # what is buffered goes nowhere
                    if pipe is not None:
                        pipe.close()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """End the process for good."""
        with self._lock:
            self._closed = True
        self._clear()

    def abandon(self) -> None:
        """Let go of a process that is the parent's, in a forked child: nothing is sent to it, nothing keeps its pipes open."""
        if self._process is None:
            return
        nothing = os.open(os.devnull, os.O_RDWR)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                os.dup2(nothing, pipe.fileno())
        os.close(nothing)
