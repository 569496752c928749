"""Worker processes: whose are killed, what the others get in the background, and how all of it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from hecompile.backends.concrete import workers as workers_module
from hecompile.backends.concrete.jobs import Done, Job
from hecompile.backends.concrete.worker import LOWER, gently
from hecompile.backends.concrete.worker_process import WorkerProcess
from hecompile.backends.concrete.workers import Workers
from hecompile.errors import ProtocolError
from tests.backends.concrete.stand_in_worker import COMMAND, job

LONGEST_S = 60.0  # after which something counts as hanging
FOREVER = "sleep 300"
LIMIT_S = 400.0


@pytest.fixture
def workers() -> Iterator[Workers]:
    """Two jobs at a time, by stand-ins."""
    own = Workers(2, COMMAND)
    yield own
    own.close()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as own:
        yield own


def worker_of(done: list[Done]) -> int:
    """The process that did a single job."""
    return int(done[0].results[0])


def until(fact: Callable[[], object]) -> None:
    """Wait until a fact holds."""
    end = time.monotonic() + LONGEST_S
    while not fact():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


def begun(workers: Workers, threads: ThreadPoolExecutor, wanted: Job) -> Future[list[Done]]:
    """A job under evaluation."""
    running = len(evaluated(workers))
    future = threads.submit(workers.run, [wanted], LIMIT_S)
    until(lambda: len(evaluated(workers)) > running)
    return future


def evaluated(workers: Workers) -> list[str]:
    """The circuits under evaluation."""
    return [task.circuit for task in list(workers._tasks.values()) if task.since is not None]


def loading(workers: Workers) -> list[WorkerProcess]:
    """The processes that were started in the background and now load a circuit there."""
    with workers._changed:
        busy = [process for process in workers._processes if process not in workers._idle and process not in workers._tasks]
    return [process for process in busy if process.alive and process.start_s]


def expect(workers: Workers, circuit: str, seconds: float) -> None:
    """As if the circuit had taken so long until now."""
    workers._seconds[circuit] = deque([seconds], 3)


def ready(workers: Workers) -> None:
    assert workers.wait_until_ready(LONGEST_S)


def refused(future: Future[list[Done]]) -> ProtocolError:
    error = future.exception(LONGEST_S)
    assert isinstance(error, ProtocolError)
    return error


def test_one_more_process_than_jobs_at_once_is_ready(workers: Workers) -> None:
    workers.run([job("a")], LIMIT_S)
    ready(workers)
    assert workers.started == 2
    workers.run([job("a"), job("b", "sleep 0.5"), job("a", "sleep 0.5")], LIMIT_S)
    ready(workers)
    assert workers.started == 3
    assert [set(process.circuits) for process in workers._processes] == [{"a", "b"}] * 3


def test_the_last_used_process_is_used_again(workers: Workers) -> None:
    first = worker_of(workers.run([job("a")], LIMIT_S))
    ready(workers)
    assert [worker_of(workers.run([job("a")], LIMIT_S)) for _ in range(3)] == [first] * 3


@pytest.mark.promise("hanging-up")
def test_cancel_kills_only_its_owners_process_and_the_spare_answers(workers: Workers, threads: ThreadPoolExecutor) -> None:
    mine, other = object(), object()
    jobs = [job("slow", "sleep 0.5")] * 2
    workers.run(jobs, LIMIT_S)
    ready(workers)
    assert all("slow" in process.circuits for process in workers._processes)
    before = {process._process.pid for process in workers._processes if process._process is not None}
    expect(workers, "slow", 1000.0)
    killed = begun(workers, threads, job("slow", FOREVER, mine))
    kept = begun(workers, threads, job("slow", "sleep 3", other))
    workers.cancel(mine)
    assert refused(killed).status == 503
    answer = worker_of(workers.run([job("slow", owner=mine)], LIMIT_S))
    assert not kept.done()  # so that it is the third
    others = {answer, worker_of(kept.result(LONGEST_S))}
    ready(workers)
    after = {process._process.pid for process in workers._processes if process._process is not None}
    assert others == before & after
    assert len(before) == len(after) == 3
    assert workers.started == 4
    assert all("slow" in process.circuits for process in workers._processes)


def test_cancel_of_nobody_does_nothing(workers: Workers, threads: ThreadPoolExecutor) -> None:
    expect(workers, "a", 1000.0)
    future = begun(workers, threads, job("a", "sleep 0.5", object()))
    workers.cancel(object())
    assert worker_of(future.result(LONGEST_S)) > 0


@pytest.mark.promise("hanging-up")
def test_cancel_lets_a_short_circuit_end_by_itself(workers: Workers, threads: ThreadPoolExecutor) -> None:
    owner = object()
    first = worker_of(workers.run([job("short", "sleep 0.3", owner)], LIMIT_S))
    ready(workers)
    started = workers.started
    future = begun(workers, threads, job("short", "sleep 0.3", owner))
    workers.cancel(owner)
    assert worker_of(future.result(LONGEST_S)) == first
    assert worker_of(workers.run([job("short", owner=owner)], LIMIT_S)) == first
    assert workers.started == started


def test_cancel_stops_a_circuit_without_a_past_when_a_process_in_its_place_costs_less(
    workers: Workers, threads: ThreadPoolExecutor
) -> None:
    owner = object()
    future = begun(workers, threads, job("new", FOREVER, owner))
    workers.cancel(owner)
    assert refused(future).status == 503


def test_cancel_drops_jobs_that_have_not_begun(workers: Workers, threads: ThreadPoolExecutor) -> None:
    owner = object()
    jobs = [job("a", "sleep 0.5", owner)] * 40
    future = threads.submit(workers.run, jobs, LIMIT_S)
    until(lambda: evaluated(workers))
    begin = time.monotonic()
    workers.cancel(owner)
    assert "given up" in str(refused(future))
    assert time.monotonic() - begin < 5  # all would take ten


def test_a_job_that_is_cancelled_while_its_circuit_loads_leaves_the_circuit(workers: Workers, threads: ThreadPoolExecutor) -> None:
    owner = object()
    future = threads.submit(workers.run, [job("large", FOREVER, owner, "1 0")], LIMIT_S)
    until(lambda: workers._tasks)
    workers.cancel(owner)
    assert "given up" in str(refused(future))
    assert workers._processes[-1].started == 1
    assert "large" in workers._processes[-1].circuits


def test_jobs_are_answered_while_circuits_load_in_the_background(workers: Workers) -> None:
    large = job("large", load="0 300")
    first = worker_of(workers.run([large], LIMIT_S))

    def one_loads() -> bool:
        """Ask for a job each time: what failed in the background is tried again after one."""
        assert worker_of(workers.run([large], LIMIT_S)) == first
        return bool(loading(workers))

    until(one_loads)
    assert [worker_of(workers.run([large], LIMIT_S)) for _ in range(20)] == [first] * 20
    until(lambda: loading(workers))  # still: it takes longer than the limit here
    assert not workers.wait_until_ready(0)


def test_a_thread_of_a_lower_priority_leaves_the_others_theirs() -> None:
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = priority()
    assert gently(priority) == before + LOWER
    assert priority() == before
    with pytest.raises(ValueError, match="its own"):
        gently(lambda: int("its own"))


def test_only_the_last_circuits_are_loaded_in_the_background(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "PRELOADED", 2)
    for name in ("a", "b", "a", "c"):
        workers.run([job(name)], LIMIT_S)
        ready(workers)
    assert set(workers._circuits) == {"a", "c"}
    monkeypatch.setattr(workers_module, "PRELOADED_BYTES", 5)  # of "0 0" each
    workers.run([job("d")], LIMIT_S)
    ready(workers)
    assert set(workers._circuits) == {"d"}


@pytest.mark.parametrize(
    ("task", "status", "reason"),
    [
        ("die", 503, "evaluating: the worker ended"),
        ("nonsense", 503, "evaluating: the worker ended"),
        ("few", 503, "evaluating: the worker gives a malformed answer"),
        ("error", 422, "evaluating: Concrete says RuntimeError: no ciphertext"),
    ],
)
def test_whatever_a_worker_does_is_a_protocol_error_and_the_next_job_runs(
    workers: Workers, task: str, status: int, reason: str
) -> None:
    with pytest.raises(ProtocolError, match=reason) as caught:
        workers.run([job("a", task)], LIMIT_S)
    assert caught.value.status == status
    assert worker_of(workers.run([job("a")], LIMIT_S)) > 0


@pytest.mark.parametrize(("keys", "status"), [("bad", 422), ("die", 503)])
def test_keys_that_a_worker_refuses_or_dies_of_are_named_and_cost_nobody_else(workers: Workers, keys: str, status: int) -> None:
    with pytest.raises(ProtocolError, match="loading key 'key'") as caught:
        workers.run([job("a", session=keys)], LIMIT_S)
    assert caught.value.status == status
    assert worker_of(workers.run([job("a", session="good")], LIMIT_S)) > 0


def test_a_worker_that_takes_too_long_or_reads_nothing_is_stopped(workers: Workers) -> None:
    with pytest.raises(ProtocolError, match=r"took more than 0\.2 seconds") as caught:
        workers.run([job("a", FOREVER)], 0.2)
    assert caught.value.status == 503
    stopped = worker_of(workers.run([job("a")], LIMIT_S))
    os.kill(stopped, signal.SIGSTOP)
    with pytest.raises(ProtocolError, match=r"took more than 0\.2 seconds"):
        workers.run([job("a", "sleep 0 " + "x" * (4 << 20))], 0.2)  # more than its pipe holds


def test_a_command_that_does_not_start_is_told() -> None:
    own = Workers(1, (sys.executable, "-c", "pass"))
    with pytest.raises(ProtocolError, match="starting: the worker ended"):
        own.run([job("a")], LIMIT_S)
    own.close()
    missing = Workers(1, ("/nowhere/python",))
    with pytest.raises(ProtocolError, match="cannot start a process"):
        missing.run([job("a")], LIMIT_S)
    missing.close()


DEAF = """
import os, time
from hecompile.backends.concrete.messages import write_message
os.close(0)
with os.fdopen(1, "wb") as sink:
    write_message(sink, {"ready": True})
    time.sleep(300)
"""
SIGNALLED = """
import signal, sys
from hecompile.backends.concrete.workers import Workers
from hecompile.errors import ProtocolError
from tests.backends.concrete.stand_in_worker import job

signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as Concrete's library does it
own = Workers(1, (sys.executable, "-c", sys.argv[1]))
try:
    own.run([job("a")], 400.0)
except ProtocolError as error:
    print(error)
own.close()
"""


def test_a_broken_pipe_does_not_end_a_process_that_handles_its_signal() -> None:
    process = subprocess.run([sys.executable, "-c", SIGNALLED, DEAF], capture_output=True, text=True, timeout=LONGEST_S, check=True)
    assert process.stdout.startswith("loading a circuit: the worker ended"), process


def test_closed_workers_refuse_jobs_and_leave_no_process_or_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: ThreadPoolExecutor
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    own = Workers(2, COMMAND)
    worker = worker_of(own.run([job("a")], LIMIT_S))
    future = begun(own, threads, job("a", FOREVER))
    assert list(tmp_path.iterdir())
    own.close()
    assert refused(future).status == 503
    until(lambda: not Path(f"/proc/{worker}").exists())
    until(lambda: not list(tmp_path.iterdir()))
    with pytest.raises(ProtocolError, match="closed"):
        own.run([job("a")], LIMIT_S)


def test_a_forked_child_ends_without_harm_to_its_parents_workers(workers: Workers) -> None:
    worker = worker_of(workers.run([job("a", load="0 300")], LIMIT_S))  # and a thread loads in the background
    child = os.fork()
    if not child:
        status = 1
        try:
            signal.alarm(int(LONGEST_S))
            workers.close()
            workers.abandon()
            status = int(threading.active_count() > 1)
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert worker_of(workers.run([job("a")], LIMIT_S)) == worker


ENDS = """
import atexit, os, signal, sys
from hecompile.backends.concrete.workers import Workers
from tests.backends.concrete.stand_in_worker import COMMAND, job

own = Workers(2, COMMAND)
atexit.register(own.close)
own.run([job("a", load="0 300")], 400.0)
print(*(process._process.pid for process in own._processes if process._process), flush=True)
if sys.argv[1] == "interrupted":
    own.run([job("a", "sleep 300")] * 9, 400.0)
"""


@pytest.mark.parametrize("how", ["in the background", "interrupted"])
def test_a_program_ends_at_once_and_its_workers_with_it(tmp_path: Path, how: str) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-c", ENDS, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    workers = process.stdout.readline().split()
    if how == "interrupted":
        time.sleep(0.5)  # whether or not all nine have begun
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=LONGEST_S)
    assert (process.returncode == 0) == (how != "interrupted")
    assert (errors == "") == (how != "interrupted"), errors
    assert errors == "" or errors.rstrip().endswith("KeyboardInterrupt")
    assert workers
    until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    until(lambda: not list(tmp_path.iterdir()))


ORPHANS = """
import os, sys
from hecompile.backends.concrete.workers import Workers
from tests.backends.concrete.stand_in_worker import COMMAND, job

own = Workers(1, COMMAND)
(done,) = own.run([job("a")], 400.0)
assert own.wait_until_ready(60.0)
print(done.results[0].decode(), flush=True)
if os.fork():
    os._exit(0)  # as if killed: nothing is closed
own.abandon()
sys.stdin.read()
"""


def test_workers_end_with_their_server_though_a_child_of_it_lives(tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", ORPHANS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        worker = process.stdout.readline().strip()
        assert process.wait(LONGEST_S) == 0
        until(lambda: not Path(f"/proc/{worker}").exists())
        until(lambda: not list(tmp_path.iterdir()))
