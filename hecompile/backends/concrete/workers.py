"""Worker processes and the jobs that wait for them: one more than cores, so that one is ready when another was killed.

A job is given to a process that has its circuit and its session's keys, the last one used first. The spare process is started, and
circuits that one process has are loaded into the others, by one thread in the background and with a lower priority, so that
whoever comes after a kill finds a worker with its circuits compiled.
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
SHORT_S = 1.0  # a job that takes less is never killed by `cancel`
REMEMBERED = 3  # evaluations of a circuit whose median is what the next one is expected to take
PRELOADED = 256  # circuits, the last ones used, that are loaded in the background, and their bytes; others are loaded when needed
PRELOADED_BYTES = 64 << 20
CLOSE_S = 5.0


@dataclass(eq=False)
class _Call:
    """Jobs that are run together."""

    owner: object
    given_up: bool = False


@dataclass(eq=False)
class _Task:
    """What a process does for a call. `since` is when the evaluation began; None while it loads."""

    call: _Call
    circuit: str
    since: float | None = None


class Workers:
    """Worker processes that run at most `count` jobs at a time. Safe for several threads.

    One more process than jobs so far ran at once is kept ready. Circuits are loaded into all of them: the last `PRELOADED` ones
    used, up to `PRELOADED_BYTES` of what they are compiled from.
    """

    def __init__(self, count: int, command: tuple[str, ...] = COMMAND) -> None:
        self._processes = [WorkerProcess(command) for _ in range(count + 1)]
        self._threads = ThreadPoolExecutor(count)
        self._pid = os.getpid()
        self._changed = threading.Condition()  # guards the following
        self._idle = list(self._processes)  # the last one used at the end
        self._tasks: dict[WorkerProcess, _Task] = {}
        self._calls: set[_Call] = set()
        self._circuits: dict[str, ServerCircuit] = {}  # the last one used at the end
        self._seconds: dict[str, deque[float]] = {}  # of the last evaluations, by circuit
        self._needed = 0  # the most jobs that ever ran at once
        self._tender: threading.Thread | None = None
        self._closed = False

    @property
    def started(self) -> int:
        """How many processes were started so far, those in place of others included."""
        return sum(process.started for process in self._processes)

    def run(self, jobs: Sequence[Job], limit_s: float) -> list[Done]:
        """Every job's results, in order. Raises `ProtocolError` if one is refused, fails, is given up, or takes longer than its
        limit in seconds."""
        call = _Call(jobs[0].owner if jobs else None)
        with self._changed:
            self._calls.add(call)
        try:
            return list(self._threads.map(lambda job: self._one(call, job, limit_s), jobs))
        except (KeyboardInterrupt, SystemExit):
            self._stop(call)  # the interpreter's end waits for the threads, and these for what is evaluated
            raise
        except (CancelledError, RuntimeError) as error:
            raise ProtocolError("evaluating: the workers of Concrete were closed", status=503) from error
        finally:
            with self._changed:
                call.given_up = True  # what has not begun does not
                self._calls.discard(call)

    def _one(self, call: _Call, job: Job, limit_s: float) -> Done:
        process, task = self._take(call, job)
        try:
            process.load(job.circuit)
            self._note_circuit(job.circuit)
            process.load_keys(job, limit_s)
            with self._changed:
                self._go_on(call)  # what was loaded is of use to the next one
                task.since = time.monotonic()
            done = process.evaluate(job, limit_s)
            with self._changed:
                self._seconds.setdefault(job.circuit.name, deque(maxlen=REMEMBERED)).append(time.monotonic() - task.since)
            return done
        finally:
            self._give_back(process)

    def _go_on(self, call: _Call) -> None:
        if call.given_up:
            raise ProtocolError("evaluating: given up", status=503)

    def _take(self, call: _Call, job: Job) -> tuple[WorkerProcess, _Task]:
        """The idle process that is best prepared. There is one: of one more than jobs, only one is tended in the background."""

        def prepared(process: WorkerProcess) -> tuple[bool, bool, bool]:
            return process.alive, job.circuit.name in process.circuits, job.session in process.sessions

        with self._changed:
            self._go_on(call)
            process = max(reversed(self._idle), key=prepared)
            self._idle.remove(process)
            self._tasks[process] = task = _Task(call, job.circuit.name)
            self._needed = max(self._needed, len(self._tasks))
            return process, task

    def _give_back(self, process: WorkerProcess) -> None:
        with self._changed:
            del self._tasks[process]
            self._idle.append(process)
            self._tend()

    def _note_circuit(self, circuit: ServerCircuit) -> None:
        """Remember a circuit for the other processes, and forget those that were not used for the longest time."""
        with self._changed:
            self._circuits.pop(circuit.name, None)
            self._circuits[circuit.name] = circuit
            while len(self._circuits) > PRELOADED or sum(each.size for each in self._circuits.values()) > PRELOADED_BYTES:
                del self._circuits[next(iter(self._circuits))]

    def cancel(self, owner: object) -> None:
        """Give up what is evaluated for an owner now, in all its threads. Returns at once, and other owners' jobs go on.

        Jobs that have not begun do not. One that runs is killed if it is expected to take longer than a process in place of its
        own takes, by the last evaluations of its circuit. Else it may end by itself, within that time or a second: killing it
        would make the next ones wait longer.
        """
        with self._changed:
            for call in self._calls:
                if call.owner is owner:
                    call.given_up = True
            for process, task in self._tasks.items():
                if task.call.owner is owner and task.since is not None:
                    self._kill_if_cheaper(process, task, task.since)

    def _kill_if_cheaper(self, process: WorkerProcess, task: _Task, since: float) -> None:
        known = self._seconds.get(task.circuit)
        left_s = statistics.median(known) - (time.monotonic() - since) if known else 0.0
        patience_s = max(SHORT_S, process.replacement_s)
        if left_s > patience_s:
            process.kill()
            return
        timer = threading.Timer(patience_s, self._kill_task, (process, task))
        timer.daemon = True
        timer.start()

    def _kill_task(self, process: WorkerProcess, task: _Task) -> None:
        """Kill a process if it still does the same."""
        with self._changed:
            if self._tasks.get(process) is task:
                process.kill()

    def _stop(self, call: _Call) -> None:
        """Kill whatever a call has running, at once."""
        with self._changed:
            call.given_up = True
            for process, task in self._tasks.items():
                if task.call is call:
                    process.kill()

    def _tend(self) -> None:
        """See to it that a thread does what is to be done in the background. Called with the lock."""
        self._changed.notify_all()
        if self._tender is None and not self._closed and self._work() is not None:
            self._tender = threading.Thread(target=self._tend_all, name="hecompile-workers", daemon=True)
            self._tender.start()

    def _work(self) -> tuple[WorkerProcess, ServerCircuit | None] | None:
        """An idle process that is to be started, or to get a circuit; None if all are ready."""
        ready = [process for process in self._processes if process in self._tasks or process.alive]
        if self._needed and len(ready) <= self._needed:
            return next(((process, None) for process in self._idle if not process.alive), None)
        idle = [process for process in self._idle if process.alive]
        missing = ((process, circuit) for circuit in reversed(self._circuits.values()) for process in idle)
        return next((each for each in missing if each[1].name not in each[0].circuits), None)

    def _tend_all(self) -> None:
        """Start processes and load circuits, one at a time, until all are ready or one fails."""
        failed = False
        while True:
            with self._changed:
                work = None if self._closed or failed else self._work()
                if work is None:
                    self._tender = None  # within the lock: whoever comes next starts another thread
                    self._changed.notify_all()
                    return
                process, circuit = work
                self._idle.remove(process)
            try:
                if circuit is None:
                    process.start(gently=True)
                else:
                    process.load(circuit, gently=True)
            except ProtocolError as error:  # the next job meets it too, and is told
                LOG.debug("in the background: %s", error)
                failed = True
            finally:
                with self._changed:
                    self._idle.insert(0, process)

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Wait until nothing is left to do in the background; False if that takes longer."""
        with self._changed:
            return self._changed.wait_for(lambda: self._tender is None, timeout_s)

    def close(self) -> None:
        """Stop all processes and threads for good. Does nothing in a forked child, whose processes these are not."""
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
        """Let go of processes that are the parent's, in a forked child."""
        for process in self._processes:
            process.abandon()


@lru_cache(maxsize=1)
def workers() -> Workers:
    """This process's workers, for one job per core at a time."""
    own = Workers(cores())
    atexit.register(own.close)
    return own


def _forget() -> None:
    """In a forked child: the parent's workers would get the messages of two processes."""
    if workers.cache_info().currsize:
        workers().abandon()
    workers.cache_clear()


os.register_at_fork(after_in_child=_forget)
