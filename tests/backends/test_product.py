"""The integer kernels: exact, or known not to be."""

from __future__ import annotations

import numpy as np
import pytest

from hecompile.backends.bfv import groups, product
from hecompile.backends.bfv.evaluator import evaluate
from hecompile.backends.bfv.groups import chunks
from hecompile.backends.bfv.packing import Layout, Packing
from hecompile.backends.bfv.product import KERNELS, MAX_K, Kernel, UnsafeMachineError, choose_kernel, self_test
from hecompile.backends.bfv.seal import make_ring
from hecompile.ir.linear import conv2d


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_a_kernel_that_passed_is_exact_at_its_longest_sum(kernel: Kernel) -> None:
    verdict = {report.name: report.exact for _, report in self_test()}
    top = 2**kernel.limb_bits - 1
    limbs = kernel.hold(np.full((1, MAX_K, 3), top, np.uint8))
    weights = np.stack([np.full(MAX_K, 127), np.full(MAX_K, -127)]).astype(np.int8)
    exact = np.array_equal(kernel.product(limbs, weights)[0, :, 0], [top * 127 * MAX_K, -top * 127 * MAX_K])
    assert exact or not verdict[kernel.name]


def test_the_chosen_kernel_is_one_that_passed() -> None:
    assert choose_kernel().name in {report.name for _, report in self_test() if report.exact}


def test_a_wrong_product_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saturating sums in 16 bits, as u8 * s8 does on a CPU without VNNI."""

    class Saturating(Kernel):
        def product(self, limbs: np.ndarray, weights: np.ndarray) -> np.ndarray:
            pairs = limbs.astype(np.int64)[:, None] * weights.astype(np.int64)[None, :, :, None]  # (L, O, K, M)
            even, odd = pairs[:, :, 0::2], pairs[:, :, 1::2]
            return np.clip(even + odd, -(2**15), 2**15 - 1).sum(axis=2).astype(np.int32)

    monkeypatch.setattr(product, "KERNELS", (Saturating("u8u8", 8, signed=False),))
    self_test.cache_clear()
    try:
        with pytest.raises(UnsafeMachineError):
            choose_kernel()
    finally:
        self_test.cache_clear()


def test_products_in_pieces_give_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few terms and answers at a time, as memory or 32-bit sums may ask."""
    rng = np.random.default_rng(0)
    geometry, weights = conv2d(rng.integers(-127, 128, (5, 4, 3, 3)), (4, 4), (1, 1), (1, 1), (1, 1), 1)
    ring, layout = make_ring(2048, 45, 1 << 24), Layout(geometry, Packing(2048, 1, 1, 4, 2, 2))
    words = rng.integers(0, ring.q, (2, 1, layout.uploads, 2048)).astype(np.uint64)
    whole = evaluate(words, weights.astype(np.int8), layout, ring)
    monkeypatch.setattr(groups, "CHUNK_BYTES", 1 << 16)
    assert chunks(layout, 6) == (1, 5)  # of 3 answers and 36 terms
    for part, expected in zip(evaluate(words, weights.astype(np.int8), layout, ring), whole, strict=True):
        np.testing.assert_array_equal(part, expected)
