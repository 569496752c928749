"""Tests the core's kernels on this machine and measures how fast they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hecompile import _core
from hecompile.backends.bfv.rings import prime
from hecompile.timing import thread_seconds

__all__ = ["KernelReport", "kernel_reports"]

N, Q_BITS, T_BITS = 2048, 48, 26
CHANNELS, TAPS, REPEATS = 64, 9, 3  # of the layer that is timed


@dataclass(frozen=True)
class KernelReport:
    """One kernel: whether its words equal those of the portable kernel, and its speed on one thread."""

    name: str
    passed: bool  # its self-test
    gmac_per_s: float  # 10^9 products of an int8 weight and a byte of a word, in the time of a whole layer
    encrypt_ns: float  # per coefficient of a request, with random bytes, quantising and packing
    decrypt_ns: float  # per coefficient of a reply


def kernel_reports() -> list[KernelReport]:
    """A report for every kernel that this processor runs, the fastest first. The kernel and threads in use are not changed."""
    before, threads = _core.kernel(), _core.threads()
    try:
        _core.set_threads(1)
        return [_report(name) for name in _core.kernels()]
    finally:
        _core.use_kernel(before)
        _core.set_threads(threads)


def _report(name: str) -> KernelReport:
    _core.use_kernel(name)
    taps = np.array([(0, k) for k in range(TAPS)], np.int32)
    layout = _core.make_layout(
        N, prime(Q_BITS, T_BITS), T_BITS, 1, (CHANNELS, 1, N - TAPS), (CHANNELS, 1, N - TAPS), taps, (1, 1, 1, 1), (0, 0)
    )
    weights = _core.make_weights(layout, np.ones((CHANNELS, CHANNELS, TAPS), np.int8), False, 0)
    integers, out = np.ones((1, CHANNELS, N), np.int64), bytearray(layout.up_bytes + _core.SEED_BYTES)
    reply, result = (
        bytearray(layout.down_b_bytes + layout.down_a_bytes),
        np.empty((1, CHANNELS, len(layout.gather_indices)), np.int64),
    )
    requests = [_core.encrypt([layout], [integers], [b""], out, [0]) for _ in range(REPEATS + 1)]  # each may be decrypted once
    words, seeds = memoryview(out)[: layout.up_bytes], memoryview(out)[layout.up_bytes :]
    encrypt_s = thread_seconds(lambda: _core.encrypt([layout], [integers], [b""], bytearray(len(out)), [0]), REPEATS)
    evaluate_s = thread_seconds(lambda: _core.evaluate(layout, weights, words, seeds, b"", None, reply, 0), REPEATS)
    decrypt_s = thread_seconds(lambda: _core.decrypt(requests.pop(), reply, [0], [result]), REPEATS)
    coefficients = CHANNELS * N
    macs = CHANNELS * CHANNELS * TAPS * (Q_BITS // 8) * 2 * N
    return KernelReport(
        name,
        _core.self_test(name),
        round(macs / evaluate_s / 1e9, 1),
        round(encrypt_s / coefficients * 1e9, 2),
        round(decrypt_s / coefficients * 1e9, 2),
    )
