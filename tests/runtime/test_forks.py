"""Processes forked from one that has imported, loaded and computed: each goes on by itself, with right results."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

import hecompile
from hecompile import _core
from hecompile.backends.bfv.rings import prime
from hecompile.backends.concrete.workers import workers
from hecompile.backends.seal_files import FILE
from hecompile.compiler import Compiled
from hecompile.runtime.call_lock import CallLock
from hecompile.runtime.client import EncryptedUNet
from tests.networks import tiny_inputs
from tests.runtime.onnx_product import product_session

LONGEST_S = 60  # after which a child counts as hanging
CHILDREN = 3


def fork(task: Callable[[], None]) -> int:
    """A forked process that ends with 0 if its task raises nothing."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        signal.alarm(LONGEST_S)
        task()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def ended(children: list[int]) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def encrypts_its_own(value: int, times: int) -> None:
    """Every encryption of a constant holds that constant: a server of one weight gives it back."""
    taps = np.zeros((1, 2), np.int32)
    layout = _core.make_layout(2048, prime(42, 24), 24, 3, (1, 2048, 1), (1, 2048, 1), taps, (1, 2048, 1, 1), (0, 0))
    weights, plain = _core.make_weights(layout, np.ones((1, 1, 1), np.int8), False, 0), np.full((3, 1, 2048), value, np.int64)
    for _ in range(times):
        out, result = bytearray(layout.up_bytes + _core.SEED_BYTES), np.empty((3, 1, 2048), np.int64)
        request = _core.encrypt([layout], [plain], [b"forks"], out, [0])
        reply = bytearray(layout.down_b_bytes + layout.down_a_bytes)
        words, seeds = memoryview(out)[: layout.up_bytes], memoryview(out)[layout.up_bytes :]
        assert _core.evaluate(layout, weights, words, seeds, b"forks", None, reply, 0) is None
        _core.decrypt(request, reply, [0], [result])
        np.testing.assert_array_equal(result, plain)


@pytest.mark.promise("forks")
@pytest.mark.fhe
def test_parent_and_children_encrypt_at_once() -> None:
    encrypts_its_own(1, 2)
    children = [fork(partial(encrypts_its_own, value, 150)) for value in range(2, 2 + CHILDREN)]
    encrypts_its_own(1, 150)
    assert ended(children) == [0] * CHILDREN


def test_a_child_does_not_keep_its_parents_memory_file() -> None:
    FILE.write(b"the parent's plaintext")
    inode = os.fstat(FILE.descriptor).st_ino

    def look() -> None:
        files = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        assert inode not in {os.stat(path).st_ino for path in files if os.path.exists(path)}
        FILE.write(b"the child's")

    assert ended([fork(look)]) == [0]
    assert os.pread(FILE.descriptor, 100, 0) == b"the parent's plaintext"


def test_a_process_that_was_forked_behind_pythons_back_takes_its_own_file(monkeypatch: pytest.MonkeyPatch) -> None:
    before = FILE.descriptor
    inode = os.fstat(before).st_ino
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert os.fstat(FILE.descriptor).st_ino != inode


@pytest.mark.promise("forks")
@pytest.mark.fhe
def test_a_loaded_model_computes_in_parent_and_children_at_once(tiny: Compiled) -> None:
    assert tiny.artifact is not None
    unet = hecompile.load(tiny.artifact)
    expected = unet(**tiny_inputs())

    def compute() -> None:
        for _ in range(6):
            np.testing.assert_array_equal(unet(**tiny_inputs()), expected)

    children = [fork(compute) for _ in range(CHILDREN)]
    compute()
    assert ended(children) == [0] * CHILDREN


@pytest.mark.promise("forks")
@pytest.mark.fhe
def test_a_fork_in_the_middle_of_another_threads_call(tiny: Compiled) -> None:
    """The thread that computes is gone in the child, and with it its turn."""
    assert tiny.artifact is not None
    unet = hecompile.load(tiny.artifact)
    expected = unet(**tiny_inputs())
    started, forked = threading.Event(), threading.Event()

    def wait(region: str) -> None:
        started.set()
        assert forked.wait(LONGEST_S)

    unet.meter.observers.append(wait)

    def run() -> None:
        with unet.run():
            unet(**tiny_inputs())

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(LONGEST_S)

    def compute() -> None:
        unet.meter.observers.clear()
        np.testing.assert_array_equal(unet(**tiny_inputs()), expected)
        with unet.run():
            np.testing.assert_array_equal(unet(**tiny_inputs()), expected)

    child = fork(compute)
    forked.set()
    thread.join(LONGEST_S)
    assert ended([child]) == [0]


def test_a_run_goes_on_in_the_child_of_its_own_thread() -> None:
    turns = CallLock()

    def call() -> None:
        with turns.call():
            assert turns.in_run

    with turns.run():
        assert ended([fork(call)]) == [0]
        call()


def test_a_session_with_threads_runs_after_a_fork() -> None:
    session, x = product_session(4), np.ones((512, 512), np.float32)
    session.run(None, {"x": x})

    def run() -> None:
        for _ in range(5):
            np.testing.assert_array_equal(session.run(["y"], {"x": x})[0], x * 512)

    children = [fork(run) for _ in range(CHILDREN)]
    run()
    assert ended(children) == [0] * CHILDREN


ENDS = """
import os, sys, signal, time
from tests.runtime.onnx_product import product_session
import numpy as np

session, x = product_session(2), np.ones((512, 512), np.float32)
session.run(None, {"x": x})
child = os.fork()
if not child:
    signal.alarm(30)
    if sys.argv[1] == "used":
        session.run(None, {"x": x})
    sys.exit(7)  # as a server's worker ends, not by os._exit
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("how", ["used", "unused"])
def test_a_child_with_an_inherited_session_ends_by_itself(how: str) -> None:
    process = subprocess.run([sys.executable, "-c", ENDS, how], capture_output=True, text=True, timeout=100, check=True)
    assert process.stdout.strip() == "7", process.stderr


def test_concretes_workers_are_not_shared_with_a_child() -> None:
    own = workers()

    def look() -> None:
        assert workers() is not own

    assert ended([fork(look)]) == [0]
    assert workers() is own


def test_a_model_is_closed_in_a_child_without_harm_to_the_parent(tiny: Compiled) -> None:
    assert tiny.artifact is not None
    unet: EncryptedUNet = hecompile.load(tiny.artifact)
    expected = unet(**tiny_inputs())
    assert ended([fork(unet.close)]) == [0]
    np.testing.assert_array_equal(unet(**tiny_inputs()), expected)
