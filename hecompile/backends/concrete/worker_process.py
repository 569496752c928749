"""One worker process as the server sees it: it is started, given circuits and keys, asked, and killed if it takes too long.

Measured with Concrete 2.10: a worker takes 320 MiB of memory, 180 of which it shares with no other process. A circuit of a small
layer takes less than one MiB more, and used evaluation keys take five times their size, which are those of one session at a time.
Starting takes 2 to 5 seconds, and loading a circuit a quarter of a second.
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
PIPE_BYTES = 1 << 20  # of the pipes to and from the process
START_S = 120.0  # time limit of starting; importing Concrete takes ten seconds on a slow machine


def cores() -> int:
    """How many cores this process may use."""
    return max(1, len(os.sched_getaffinity(0)))


@contextlib.contextmanager
def _broken_pipes_as_errors() -> Iterator[None]:
    """Make a broken pipe an `OSError` within the `with` block.

    Elsewhere it would end a process in which Concrete has run a circuit, since its library handles the signal.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
    try:
        yield
    finally:
        if signal.SIGPIPE not in before:
            signal.sigtimedwait({signal.SIGPIPE}, 0)  # takes a pending signal back
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPIPE})


class WorkerProcess:
    """A worker process, which may not have been started yet or may have ended.

    Only one thread may ask it at a time, but any thread may kill it.
    """

    def __init__(self, command: tuple[str, ...] = COMMAND) -> None:
        self.started = 0  # how often it was started
        self.start_s = 0.0  # seconds that the last start took
        self.circuits: dict[str, float] = {}  # loaded circuits by name, and the seconds that each took
        self.sessions: list[str] = []  # sessions whose keys are loaded
        self._command, self._closed = command, False
        self._lock = threading.Lock()  # guards the attributes below
        self._process: subprocess.Popen[bytes] | None = None
        self._folder, self._killed = "", False

    @property
    def alive(self) -> bool:
        """True if the process runs and was not killed. A killed process still looks as if it ran until it has ended."""
        process = self._process
        return process is not None and not self._killed and process.poll() is None

    @property
    def replacement_s(self) -> float:
        """Seconds until another process would have started and loaded the same circuits."""
        return self.start_s + sum(self.circuits.values())

    def start(self, gently: bool = False) -> None:
        """Start the process if it does not run, at a lower priority until it is ready if `gently`.

        Raises:
            ProtocolError: if it does not start, or if the workers were closed.
        """
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
        """Start a process with a folder of its own for temporary files, which is removed when the process ends."""
        self._folder = tempfile.mkdtemp(prefix="hecompile-worker-")
        # waiting threads sleep, so that they leave the cores to other workers
        environment = os.environ | {"OMP_NUM_THREADS": str(cores()), "OMP_WAIT_POLICY": "passive", "TMPDIR": self._folder}
        process = subprocess.Popen(
            [*self._command, self._folder, *(["gently"] if gently else [])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
        if hasattr(fcntl, "F_SETPIPE_SZ"):  # with small pipes an answer of ten megabytes takes 200 switches between the processes
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):  # a user's pipes may be limited to less
                    fcntl.fcntl(pipe or 0, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        return process

    def load(self, circuit: ServerCircuit, gently: bool = False) -> None:
        """Let the process compile a circuit unless it has it.

        Raises:
            ProtocolError: if that fails, or if other parameters come out than those of the artifact.
        """
        self.start(gently)
        if circuit.name in self.circuits:
            return
        started = time.monotonic()
        answer = self._ask(
            START_S, "loading a circuit", do="load", name=circuit.name, mlir=circuit.mlir, p_error=circuit.p_error,
            keys=circuit.keys, low=gently,
        )  # fmt: skip
        if answer.get("specs") != circuit.specs:
            raise ProtocolError(
                "this version of Concrete chooses other parameters than the one that compiled the artifact: compile it again here"
            )
        self.circuits[circuit.name] = time.monotonic() - started

    def load_keys(self, job: Job, limit_s: float) -> None:
        """Let the process load the keys of a job's session, and drop those of other sessions, since keys are large.

        Raises:
            ProtocolError: if that fails, or takes more than `limit_s` seconds.
        """
        if not job.session or job.session in self.sessions:
            return
        for old in self.sessions:
            self._ask(limit_s, "dropping keys", do="forget", session=old)
        self.sessions = []
        self._ask(limit_s, f"loading key '{job.key_name}'", do="keys", session=job.session, data=job.keys)
        self.sessions = [job.session]

    def evaluate(self, job: Job, limit_s: float) -> Done:
        """Evaluate a job whose circuit and keys are loaded.

        Raises:
            ProtocolError: if that fails, or takes more than `limit_s` seconds.
        """
        wanted = list(job.ciphertexts)
        answer = self._ask(limit_s, "evaluating", do="run", name=job.circuit.name, session=job.session, ciphertexts=wanted)
        results, cpu_s = answer.get("results"), answer.get("cpu_s")
        if not isinstance(results, list) or not isinstance(cpu_s, float) or len(results) != len(wanted):
            self.kill()
            raise ProtocolError("evaluating: the worker gives a malformed answer", status=503)
        return Done([bytes(result) for result in results], cpu_s)

    def _ask(self, limit_s: float, what: str, **message: Any) -> dict[str, Any]:
        """The answer to a message. Raises `ProtocolError`, which begins with `what`, if it is an error."""
        answer = self._exchange(limit_s, what, message)
        if "error" in answer:
            raise ProtocolError(f"{what}: Concrete says {str(answer['error'])[:200]}")
        return answer

    def _exchange(self, limit_s: float, what: str, message: dict[str, Any] | None) -> dict[str, Any]:
        """Send a message, if there is one, and return the process's next answer.

        Raises:
            ProtocolError: if the process has ended, or takes more than `limit_s` seconds, after which it is killed.
        """
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
        except (OSError, ValueError, MemoryError):  # the pipe is broken, or was closed by `close`
            answer = None
        finally:
            timer.cancel()
        if answer is None:
            self._clear()
            reason = f"took more than {limit_s:g} seconds and was stopped" if late.is_set() else "ended: stopped, or out of memory"
            raise ProtocolError(f"{what}: the worker {reason}", status=503)
        return answer

    def kill(self) -> None:
        """Kill the process, whatever it does, without waiting for its end."""
        with self._lock:
            if self._process is not None:
                self._killed = True
                self._process.kill()

    def _clear(self) -> None:
        """End the process and remove its pipes and its folder."""
        with self._lock:
            process, folder = self._process, self._folder
            self._process, self._folder, self._killed = None, "", False
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError), _broken_pipes_as_errors():  # buffered data is lost
                    if pipe is not None:
                        pipe.close()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """End the process. It cannot be started again."""
        with self._lock:
            self._closed = True
        self._clear()

    def abandon(self) -> None:
        """In a forked child: let go of the parent's process. The child sends nothing to it and does not keep its pipes open."""
        if self._process is None:
            return
        nothing = os.open(os.devnull, os.O_RDWR)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                os.dup2(nothing, pipe.fileno())
        os.close(nothing)
