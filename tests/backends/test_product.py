"""The integer kernels: exact, or known not to be."""

from __future__ import annotations

import numpy as np
import pytest

from hecompile.backends.bfv import product
from hecompile.backends.bfv.product import KERNELS, MAX_K, Kernel, UnsafeMachineError, choose_kernel, self_test


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
