"""Client regions: no time that tells of values, no change of the caller's arithmetic, no word to anybody else."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from hecompile.errors import ProtocolError
from hecompile.onnx_sessions import denormals_as_zero, flushes_denormals
from hecompile.runtime.local_region import LocalRegion

ROOT = Path(__file__).parents[2]
SIZE = 512
DENORMAL = 1e-40  # below 2^-126, the least normal float32
MOST_TIMES_SLOWER = 5.0  # 140 where denormal numbers are computed with


def product(threads: int | None = None) -> LocalRegion:
    """y = x W."""
    weights = numpy_helper.from_array(np.full((SIZE, SIZE), 0.5, np.float32), "w")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [SIZE, SIZE]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "product", values[:1], values[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return LocalRegion(model.SerializeToString(), "product", threads)


def filled(value: float) -> npt.NDArray[np.float32]:
    return np.full((SIZE, SIZE), value, np.float32)


def seconds(region: LocalRegion, value: float) -> float:
    """Wall seconds of the fastest of seven runs."""
    x, taken = filled(value), []
    for _ in range(7):
        started = time.perf_counter()
        region.run(["y"], {"x": x})
        taken.append(time.perf_counter() - started)
    return min(taken)


def test_names_and_values() -> None:
    region = product()
    assert (region.inputs, region.outputs) == (("x",), ("y",))
    np.testing.assert_array_equal(region.run(["y"], {"x": filled(1)})[0], filled(SIZE / 2))


@pytest.mark.promise("denormals")
@pytest.mark.parametrize("threads", [1, 2, None])
def test_denormal_numbers_take_no_longer_than_others(threads: int | None) -> None:
    region = product(threads)
    assert seconds(region, DENORMAL) < MOST_TIMES_SLOWER * seconds(region, 0.5)


@pytest.mark.promise("denormals")
def test_denormal_numbers_take_no_longer_in_another_thread() -> None:
    """The mode is set per thread. Here a thread runs the session that did not create it."""
    region, taken = product(2), list[float]()
    thread = threading.Thread(target=lambda: taken.extend(seconds(region, value) for value in (DENORMAL, 0.5)))
    thread.start()
    thread.join()
    assert taken[0] < MOST_TIMES_SLOWER * taken[1]


@pytest.mark.parametrize("flush", [False, True])
def test_the_callers_own_arithmetic_stays_as_it_was(flush: bool) -> None:
    before = flushes_denormals()
    try:
        torch.set_flush_denormal(flush)
        region = product()
        assert flushes_denormals() is flush
        region.run(["y"], {"x": filled(1)})
        assert flushes_denormals() is flush
        with pytest.raises(ProtocolError):
            region.run(["y"], {"x": np.zeros((1, 1), np.int64)})
        assert flushes_denormals() is flush
        with denormals_as_zero():
            assert flushes_denormals()
        assert flushes_denormals() is flush
    finally:
        torch.set_flush_denormal(before)


FIRST = """
from tests.runtime.test_local_region import product, flushes_denormals, filled
import os, torch
for flush in (False, True):
    if not os.fork():
        torch.set_flush_denormal(flush)
        region = product()
        region.run(["y"], {"x": filled(1)})
        print(flush, flushes_denormals(), flush=True)
        os._exit(0)
    os.wait()
"""


def test_the_first_session_of_a_process_leaves_its_arithmetic_alone() -> None:
    """ONNX Runtime sets the mode of the thread that creates its first session. Each case is a fork of one process."""
    process = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, timeout=100, check=True)
    assert process.stdout.split() == ["False", "False", "True", "True"], process.stderr


@pytest.mark.parametrize("data", [b"", b"no graph at all", b"\x08\x09" * 40])
def test_what_is_no_graph_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="'odd': not a runnable ONNX file"):
        LocalRegion(data, "odd")


def test_values_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ProtocolError, match="'product': its ONNX file cannot be run"):
        product().run(["y"], {"x": np.zeros((3, 3), np.float32)})


def test_onnx_runtime_is_imported_in_one_place_that_silences_it() -> None:
    folders = [ROOT / name for name in ("hecompile", "runtime", "passes", "models")]
    imports = set()
    for path in {path.resolve() for folder in folders for path in folder.rglob("*.py")}:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "onnxruntime" for alias in node.names):
                imports.add(path.name)
            assert not (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "onnxruntime"), path
    assert imports == {"onnx_sessions.py"}


QUIET = """
import os
from hecompile.onnx_sessions import import_onnxruntime

import_onnxruntime()
print(len(os.listdir("/proc/self/task")))
"""


def test_onnx_runtime_starts_no_thread_that_reports() -> None:
    quiet = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    quiet.pop("ORT_DISABLE_TELEMETRY", None)
    process = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, text=True, timeout=100, check=True, env=quiet)
    assert process.stdout.strip() == "1"


@pytest.mark.promise("denormals")
@pytest.mark.parametrize("value", [0.0, DENORMAL, 1e-20, 1e3, 1e30, np.nan, np.inf])
def test_attention_takes_as_long_whatever_it_gets(value: float) -> None:
    """Of more keys than a block has, so that results of blocks are scaled to each other."""
    shape = [1, 4096, 128]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "qkvy"]
    fused = helper.make_node("MultiHeadAttention", [*"qkv"], ["y"], domain="com.microsoft", num_heads=2, scale=0.1)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(helper.make_graph([fused], "g", values[:3], values[3:]), opset_imports=opsets, ir_version=9)
    region = LocalRegion(model.SerializeToString(), "attention", 1)
    usual = {name: np.random.default_rng(0).standard_normal(shape, dtype=np.float32) for name in "qkv"}
    odd, times = {name: np.full(shape, value, np.float32) for name in "qkv"}, dict[int, float]()
    for _ in range(5):
        for place, given in enumerate((usual, odd)):
            started = time.thread_time()
            region.run(["y"], given)
            times[place] = min(times.get(place, np.inf), time.thread_time() - started)
    assert times[1] < 1.5 * times[0]
