"""Runs jobs in worker processes, of which there is one more than jobs run at a time, as a spare for one that was killed.

A job goes to a process that has its circuit and its session's keys, the one used last first. A background thread starts the spare
process, and loads circuits that one process has into the others, at a lower priority. So a job that comes after a kill finds a
process that has its circuit.
"""

from __future__ import annotations

import atexit
import logging
import os
import statistics
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

from hecompile.backends.concrete.jobs import Done, Job, ServerCircuit
from hecompile.backends.concrete.worker_process import COMMAND, WorkerProcess, cores
from hecompile.errors import ProtocolError

__all__ = ["Done", "Job", "ServerCircuit", "Workers", "workers"]

LOG = logging.getLogger(__name__)
SHORT_S = 1.0  # `cancel` never kills a job that takes less
REMEMBERED = 3  # the last evaluations of a circuit, whose median predicts the next one
PRELOADED = 256  # circuits that are loaded in the background, those used last; others are loaded when needed
PRELOADED_BYTES = 64 << 20  # of all these circuits
CLOSE_S = 5.0  # that `close` waits for the background thread


@dataclass(eq=False)
class _Call:
    """The jobs of one call of `Workers.run`."""

    owner: object
    given_up: bool = False


@dataclass(eq=False)
class _Task:
    """What a process does for a call. `since` is the time when the evaluation began; None while the process loads."""

    call: _Call
    circuit: str
    since: float | None = None


class Workers:
    """Worker processes that run at most `count` jobs at a time. Several threads may use them at once.

    One more process is kept ready than jobs ever ran at once. The last `PRELOADED` circuits that were used, up to
    `PRELOADED_BYTES`, are loaded into all of them.
    """

    def __init__(self, count: int, command: tuple[str, ...] = COMMAND) -> None:
        self._processes = [WorkerProcess(command) for _ in range(count + 1)]
        self._threads = ThreadPoolExecutor(count)
        self._pid = os.getpid()
        self._changed = threading.Condition()  # guards the attributes below
        self._idle = list(self._processes)  # the one used last at the end
        self._tasks: dict[WorkerProcess, _Task] = {}
        self._calls: set[_Call] = set()
        self._circuits: dict[str, ServerCircuit] = {}  # the one used last at the end
        self._seconds: dict[str, deque[float]] = {}  # that the last evaluations of each circuit took
        self._needed = 0  # the most jobs that ever ran at once
        self._tender: threading.Thread | None = None
        self._closed = False

    @property
    def started(self) -> int:
        """How many processes were started so far, with those that replaced others."""
        return sum(process.started for process in self._processes)

    def run(self, jobs: Sequence[Job], limit_s: float) -> list[Done]:
        """Run jobs and return their results in order.

        Raises:
            ProtocolError: if one is refused, fails, is given up, or takes longer than `limit_s` seconds.
        """
        call = _Call(jobs[0].owner if jobs else None)
        with self._changed:
            self._calls.add(call)
        try:
            return list(self._threads.map(lambda job: self._one(call, job, limit_s), jobs))
        except (KeyboardInterrupt, SystemExit):
            self._stop(call)  # else the interpreter's end would wait for the threads, and these for the evaluations
            raise
        except (CancelledError, RuntimeError) as error:
            raise ProtocolError("evaluating: the workers of Concrete were closed", status=503) from error
        finally:
            with self._changed:
                call.given_up = True  # so that jobs that have not begun do not begin
                self._calls.discard(call)

    def _one(self, call: _Call, job: Job, limit_s: float) -> Done:
        """Run one job in the idle process that is best prepared for it."""
        process, task = self._take(call, job)
        try:
            process.load(job.circuit)
            self._note_circuit(job.circuit)
            process.load_keys(job, limit_s)
            with self._changed:
                self._go_on(call)  # the process keeps what it loaded, which the next job can use
                task.since = time.monotonic()
            done = process.evaluate(job, limit_s)
            with self._changed:
                self._seconds.setdefault(job.circuit.name, deque(maxlen=REMEMBERED)).append(time.monotonic() - task.since)
            return done
        finally:
            self._give_back(process)

    def _go_on(self, call: _Call) -> None:
        """Raise `ProtocolError` if the call was given up."""
        if call.given_up:
            raise ProtocolError("evaluating: given up", status=503)

    def _take(self, call: _Call, job: Job) -> tuple[WorkerProcess, _Task]:
        """Take the idle process that is best prepared for a job.

        There always is one, as there is one more process than jobs, and the background thread holds only one.
        """

        def prepared(process: WorkerProcess) -> tuple[bool, bool, bool]:
            """How much of what the job needs a process has: itself running, the circuit, the keys."""
            return process.alive, job.circuit.name in process.circuits, job.session in process.sessions

        with self._changed:
            self._go_on(call)
            process = max(reversed(self._idle), key=prepared)
            self._idle.remove(process)
            self._tasks[process] = task = _Task(call, job.circuit.name)
            self._needed = max(self._needed, len(self._tasks))
            return process, task

    def _give_back(self, process: WorkerProcess) -> None:
        """Make a process idle again."""
        with self._changed:
            del self._tasks[process]
            self._idle.append(process)
            self._tend()

    def _note_circuit(self, circuit: ServerCircuit) -> None:
        """Remember a circuit for the other processes, and forget circuits that have not been used for the longest time."""
        with self._changed:
            self._circuits.pop(circuit.name, None)
            self._circuits[circuit.name] = circuit
            while len(self._circuits) > PRELOADED or sum(known.size for known in self._circuits.values()) > PRELOADED_BYTES:
                del self._circuits[next(iter(self._circuits))]

    def cancel(self, owner: object) -> None:
        """Give up all jobs of an owner, in all its threads, without waiting. Jobs of other owners go on.

        Jobs that have not begun do not begin. A running job's process is killed if the job is expected to take longer than starting
        another process, by the last evaluations of its circuit. A shorter job may end by itself, since killing it would make later
        jobs wait longer; it is killed if it takes longer than that after all.
        """
        with self._changed:
            for call in self._calls:
                if call.owner is owner:
                    call.given_up = True
            for process, task in self._tasks.items():
                if task.call.owner is owner and task.since is not None:
                    self._kill_if_cheaper(process, task, task.since)

    def _kill_if_cheaper(self, process: WorkerProcess, task: _Task, since: float) -> None:
        """Kill a process now if its task would take longer than a new process, else only if it takes that long after all."""
        known = self._seconds.get(task.circuit)
        left_s = statistics.median(known) - (time.monotonic() - since) if known else 0.0
        timeout_s = max(SHORT_S, process.replacement_s)
        if left_s > timeout_s:
            process.kill()
            return
        timer = threading.Timer(timeout_s, self._kill_task, (process, task))
        timer.daemon = True
        timer.start()

    def _kill_task(self, process: WorkerProcess, task: _Task) -> None:
        """Kill a process if it still does this task."""
        with self._changed:
            if self._tasks.get(process) is task:
                process.kill()

    def _stop(self, call: _Call) -> None:
        """Give up a call and kill all processes that run its jobs, without waiting."""
        with self._changed:
            call.given_up = True
            for process, task in self._tasks.items():
                if task.call is call:
                    process.kill()

    def _tend(self) -> None:
        """Start a background thread if there is work for it and none runs. The caller holds the lock."""
        self._changed.notify_all()
        if self._tender is None and not self._closed and self._work() is not None:
            self._tender = threading.Thread(target=self._tend_all, name="hecompile-workers", daemon=True)
            self._tender.start()

    def _work(self) -> tuple[WorkerProcess, ServerCircuit | None] | None:
        """An idle process to start (with None), or one to load a circuit into; None if all processes are ready."""
        ready = [process for process in self._processes if process in self._tasks or process.alive]
        if self._needed and len(ready) <= self._needed:
            return next(((process, None) for process in self._idle if not process.alive), None)
        idle = [process for process in self._idle if process.alive]
        missing = ((process, circuit) for circuit in reversed(self._circuits.values()) for process in idle)
        return next(((process, circuit) for process, circuit in missing if circuit.name not in process.circuits), None)

    def _tend_all(self) -> None:
        """Start processes and load circuits, one at a time, until all are ready or one fails."""
        failed = False
        while True:
            with self._changed:
                work = None if self._closed or failed else self._work()
                if work is None:
                    self._tender = None  # under the lock, so that later work starts another thread
                    self._changed.notify_all()
                    return
                process, circuit = work
                self._idle.remove(process)
            try:
                if circuit is None:
                    process.start(gently=True)
                else:
                    process.load(circuit, gently=True)
            except ProtocolError as error:  # the next job meets the same error and reports it
                LOG.debug("in the background: %s", error)
                failed = True
            finally:
                with self._changed:
                    self._idle.insert(0, process)

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Wait until the background thread has nothing left to do. Returns False if that takes longer than `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._tender is None, timeout_s)

    def close(self) -> None:
        """Stop all processes and threads. Does nothing in a forked child, since the processes are its parent's."""
        if os.getpid() != self._pid:
            return
        with self._changed:
            self._closed, tender = True, self._tender
            for call in self._calls:
                call.given_up = True
        for process in self._processes:
            process.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        if tender is not None:
            tender.join(CLOSE_S)

    def abandon(self) -> None:
        """In a forked child: let go of the parent's processes."""
        for process in self._processes:
            process.abandon()


@lru_cache(maxsize=1)
def workers() -> Workers:
    """The workers of this process, which run one job per core at a time."""
    own = Workers(cores())
    atexit.register(own.close)
    return own


def _forget() -> None:
    """In a forked child: forget the parent's workers, which would otherwise get messages from two processes."""
    if workers.cache_info().currsize:
        workers().abandon()
    workers.cache_clear()


os.register_at_fork(after_in_child=_forget)
