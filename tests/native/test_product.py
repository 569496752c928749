"""The core's product against plain arithmetic, bit for bit: every kernel, form, number of threads and batch."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hecompile import _core
from hecompile.backends.bfv.kernels import UnsafeMachineError, proved_kernel
from hecompile.backends.bfv.packing import Layout, layouts
from hecompile.backends.bfv.rings import prime
from hecompile.backends.bfv.speeds import kernel_reports
from hecompile.backends.words import pack_bits, unpack_bits
from hecompile.ir import linear as forms
from hecompile.ir.linear import Array, Geometry
from tests.native.reference_server import answers, rounded

RNG = np.random.default_rng(0)
CASES: dict[str, tuple[Geometry, Array, int]] = {
    "picture": (*forms.conv2d(RNG.integers(-127, 128, (5, 7, 3, 3)), (6, 5), (1, 1), (1, 1), (1, 1), 1), 1),
    "batch": (*forms.conv2d(RNG.integers(-127, 128, (3, 4, 3, 3)), (8, 8), (1, 1), (1, 1), (1, 1), 1), 5),
    "stride": (*forms.conv2d(RNG.integers(-127, 128, (4, 3, 3, 3)), (9, 7), (2, 2), (1, 1), (1, 1), 1), 2),
    "tiles": (*forms.conv2d(RNG.integers(-127, 128, (2, 3, 3, 3)), (70, 60), (1, 1), (1, 1), (1, 1), 1), 1),
    "tokens": (*forms.linear(RNG.integers(-127, 128, (6, 9)), 77), 2),
    "one token": (*forms.linear(RNG.integers(-127, 128, (20, 33)), 1), 3),
    "upsampled": (*forms.upsampled_conv2d(RNG.integers(-15, 16, (3, 4, 3, 3)), (5, 6), (2, 2), (1, 1), (1, 1), 1), 1),
}
RINGS = [(48, 26), (33, 21), (50, 30), (40, 24)]


@pytest.fixture
def every_setting() -> Iterator[list[tuple[str, int]]]:
    """Kernels and numbers of threads; those in use come back afterwards."""
    kernel, threads = _core.kernel(), _core.threads()
    yield [(name, count) for name in _core.kernels() for count in (1, 3)]
    _core.use_kernel(kernel)
    _core.set_threads(threads)


def in_core(layout: Layout, q_bits: int, t_bits: int, drops: tuple[int, int]) -> _core.Layout:
    geometry, packing = layout.geometry, layout.packing
    return _core.make_layout(
        packing.dimension, prime(q_bits, t_bits), t_bits, packing.elements, geometry.picture, (geometry.rows, *geometry.grid),
        np.array(geometry.taps, np.int32), (packing.images_per_poly, packing.band_rows, packing.p_in, packing.p_out), drops,
    )  # fmt: skip


def some_layouts(geometry: Geometry, elements: int) -> list[Layout]:
    """The first, the last and one in the middle of those worth trying."""
    choices = layouts(geometry, 2048, elements)
    return [choices[place] for place in sorted({0, len(choices) // 2, len(choices) - 1})]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("q_bits", "t_bits"), RINGS)
def test_answers_are_those_of_plain_arithmetic(case: str, q_bits: int, t_bits: int, every_setting: list[tuple[str, int]]) -> None:
    geometry, values, elements = CASES[case]
    weights, q, drops, rng = values.astype(np.int8), prime(q_bits, t_bits), (3, 5), np.random.default_rng(1)
    for layout in some_layouts(geometry, elements):
        layer = in_core(layout, q_bits, t_bits, drops)
        assert (layer.blocks, layer.uploads, layer.answers) == (layout.blocks, layout.uploads, layout.answers)
        assert layer.gather_indices == layout.gather_indices.tolist()
        b = rng.integers(0, q, (layer.blocks, layer.uploads, 2048)).astype(np.uint64)
        b[0, 0, :2] = [0, q - 1]
        added = rng.integers(-(1 << t_bits - 1) + 1, 1 << t_bits - 1, (layer.blocks, layer.answers, len(layer.gather_indices)))
        words, seeds = pack_bits(b, q_bits), os.urandom(32 * layer.seeds)
        a = _core.public_words(layer, seeds, b"test").reshape(layer.seeds, layer.uploads, 2048)
        delta = (q - 1) >> t_bits
        exact_b = np.stack([answers(block, weights, layout, q)[:, layout.gather_indices] for block in b])
        exact_b = (exact_b + added.astype(object) * delta) % q
        exact_a = np.stack([answers(group, weights, layout, q) for group in a])
        want = [rounded(exact_b, drops[0], q_bits), rounded(exact_a, drops[1], q_bits)]
        for kernel, threads in every_setting:
            _core.use_kernel(kernel)
            _core.set_threads(threads)
            for transform, keep in ((False, 0), (True, 0), (True, 1 << 30)):
                made = _core.make_weights(layer, weights, transform, keep)
                assert made.bytes > 0
                reply = bytearray(layer.down_b_bytes + layer.down_a_bytes)
                assert _core.evaluate(layer, made, words, seeds, b"test", np.ascontiguousarray(added), reply, 0) is None
                got_b = unpack_bits(memoryview(reply)[: layer.down_b_bytes], exact_b.size, q_bits - drops[0])
                got_a = unpack_bits(memoryview(reply)[layer.down_b_bytes :], exact_a.size, q_bits - drops[1])
                message = f"{kernel}, {threads} threads, {'transform' if transform else 'limbs'}"
                np.testing.assert_array_equal(got_b, want[0].reshape(-1).astype(np.uint64), err_msg=message)
                np.testing.assert_array_equal(got_a, want[1].reshape(-1).astype(np.uint64), err_msg=message)


def small() -> tuple[Layout, _core.Layout, _core.Weights]:
    geometry, values, elements = CASES["picture"]
    layout = layouts(geometry, 2048, elements)[0]
    layer = in_core(layout, 48, 26, (0, 0))
    return layout, layer, _core.make_weights(layer, values.astype(np.int8), False, 0)


def test_words_that_are_not_below_q_are_refused() -> None:
    _, layer, weights = small()
    reply, words = bytearray(layer.down_b_bytes + layer.down_a_bytes), np.zeros(layer.up_bytes // 6, np.uint64)
    for place in (0, len(words) - 1):
        words[:] = 0
        words[place] = prime(48, 26)
        assert (
            _core.evaluate(layer, weights, pack_bits(words, 48), bytes(32), b"", None, reply, 0)
            == "a word of the request is not below q"
        )


def test_weights_beyond_what_is_written_are_refused() -> None:
    _, layer, _ = small()
    values = CASES["picture"][1]
    for wrong in (np.full(values.shape, -128, np.int8), values.astype(np.int8)[:-1], values.astype(np.int8)[:, :-1]):
        with pytest.raises(ValueError, match=r"-128|another shape"):
            _core.make_weights(layer, np.ascontiguousarray(wrong), False, 0)


def test_buffers_that_are_too_short_are_refused() -> None:
    _, layer, weights = small()
    whole, words, seeds = layer.down_b_bytes + layer.down_a_bytes, bytes(layer.up_bytes), bytes(32 * layer.seeds)
    for request, seed, reply, offset in (
        (words[:-1], seeds, bytearray(whole), 0),
        (words, seeds[:-1], bytearray(whole), 0),
        (words, seeds, bytearray(whole - 1), 0),
        (words, seeds, bytearray(whole), 1),
        (words, seeds, bytearray(whole), 2**63 - 1),
    ):
        with pytest.raises(ValueError, match="shorter"):
            _core.evaluate(layer, weights, request, seed, b"", None, reply, offset)


@pytest.mark.parametrize(
    "change",
    [
        {"dimension": 2047}, {"dimension": 1 << 20}, {"q": prime(48, 26) - 2}, {"q": prime(48, 28)}, {"q": 3}, {"t_bits": 0},
        {"t_bits": 39}, {"elements": 0}, {"elements": 1 << 62}, {"picture": (0, 1, 1)}, {"picture": (1 << 40, 1, 1)},
        {"result": (1, 0, 1)}, {"packing": (0, 1, 1, 1)}, {"packing": (1, 1, 1 << 40, 1)}, {"packing": (1, 1, 1, 2)},
        {"packing": (1 << 40, 1, 1, 1)}, {"drops": (-1, 0)}, {"drops": (48, 0)}, {"taps": np.array([[1 << 30, 0]], np.int32)},
        {"taps": np.zeros((0, 2), np.int32)}, {"picture": (1, 2, 2048)},
    ],
    ids=str,
)  # fmt: skip
def test_layouts_out_of_range_are_refused(change: dict[str, object]) -> None:
    usual: dict[str, object] = {
        "dimension": 2048, "q": prime(48, 26), "t_bits": 26, "elements": 1, "picture": (1, 1, 8), "result": (1, 1, 8),
        "taps": np.zeros((1, 2), np.int32), "packing": (1, 1, 1, 1), "drops": (0, 0),
    }  # fmt: skip
    _core.make_layout(**usual)  # type: ignore[arg-type]
    with pytest.raises((ValueError, OverflowError)):
        _core.make_layout(**(usual | change))  # type: ignore[arg-type]


def test_every_kernel_proves_itself_and_a_wrong_one_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(report.passed for report in kernel_reports())
    assert proved_kernel() == _core.kernel() in _core.kernels()
    proved_kernel.cache_clear()
    monkeypatch.setattr(_core, "self_test", lambda name: False)
    with pytest.raises(UnsafeMachineError, match="HECOMPILE_KERNEL"):
        proved_kernel()
    proved_kernel.cache_clear()


def test_tiles_are_used_where_the_processor_has_them() -> None:
    """Linux gives them to this process; a client of another kernel gets the same words."""
    if "amx_int8" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("no AMX here")
    assert _core.kernels()[:2] == ["amx", "avx512"]
    assert _core.self_test("amx")


def test_a_stack_for_signals_that_holds_no_tiles_leaves_avx512() -> None:
    """Linux refuses tiles to such a process, and nothing else is the worse for it."""
    if "amx" not in _core.kernels():
        pytest.skip("no AMX here")
    code = """
import ctypes
class Stack(ctypes.Structure):
    _fields_ = [("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]
room = ctypes.create_string_buffer(4096)
assert ctypes.CDLL(None).sigaltstack(ctypes.byref(Stack(ctypes.addressof(room), 0, 4096)), None) == 0
from hecompile import _core
print(_core.kernel(), _core.self_test(_core.kernel()))
"""
    environment = {name: value for name, value in os.environ.items() if name != "HECOMPILE_KERNEL"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["avx512", "True"]
