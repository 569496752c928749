"""The integer product on ciphertext words, exact on every CPU it agrees to run on.

A word below 2^60 is split into unsigned limbs of 7 or 8 bits; int8 weights times one limb is a `MatMulInteger` of ONNX Runtime
with 32-bit sums (DESIGN section 3). Which types and limb widths are exact and fast depends on the CPU: without VNNI, u8 * s8
saturates in int16 and one wrong limb destroys a ciphertext. So every kernel proves itself at start on the extreme and on random
operands, and the fastest exact one is used.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.errors import HecompileError

__all__ = ["KERNELS", "MAX_K", "Held", "Kernel", "KernelReport", "UnsafeMachineError", "choose_kernel", "self_test"]

MAX_K = (2**31 - 1) // (255 * 255)  # longest sum of bytes times bytes that cannot overflow int32

Bytes = npt.NDArray[np.uint8]
Held = npt.NDArray[Any]
Sums = npt.NDArray[np.int32]


class UnsafeMachineError(HecompileError):
    """No kernel of this machine multiplies integers exactly: the server refuses to start."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """`product(hold(limbs), weights)`: (L, K, M) limbs and (O, K) int8 weights to (L, O, M) int32 sums.

    Weights go in unsigned, with a zero point of 128, limbs unsigned or signed, less half of their range.
    """

    name: str
    limb_bits: int
    signed: bool

    def hold(self, limbs: Bytes) -> Held:
        """Limbs as the product takes them: bytes of the same shape."""
        return (limbs - np.uint8(1 << (self.limb_bits - 1))).view(np.int8) if self.signed else limbs

    def product(self, limbs: Held, weights: npt.NDArray[np.int8]) -> Sums:
        """Exact sums over K, for K up to `MAX_K`."""
        sums: Sums = self._run(None, {"limbs": limbs, "weights": weights.view(np.uint8) ^ np.uint8(128)})[0]
        return sums

    @cached_property
    def _run(self) -> Any:
        """An ONNX Runtime session of one `MatMulInteger`."""
        import onnx
        from onnx import TensorProto, helper

        from hecompile.onnx_sessions import OnnxSession

        limb_type, limb_zero = (TensorProto.INT8, -(1 << (self.limb_bits - 1))) if self.signed else (TensorProto.UINT8, 0)
        graph = helper.make_graph(
            [helper.make_node("MatMulInteger", ["weights", "limbs", "weight_zero", "limb_zero"], ["sums"])],
            "product",
            [
                helper.make_tensor_value_info("limbs", limb_type, ["L", "K", "M"]),
                helper.make_tensor_value_info("weights", TensorProto.UINT8, ["O", "K"]),
            ],
            [helper.make_tensor_value_info("sums", TensorProto.INT32, ["L", "O", "M"])],
            [
                helper.make_tensor("weight_zero", TensorProto.UINT8, [], [128]),
                helper.make_tensor("limb_zero", limb_type, [], [limb_zero]),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        return OnnxSession(model.SerializeToString()).run


# Signed limbs are what VNNI instructions want. Without VNNI pairs of products are added in int16: it holds those of 7-bit limbs.
KERNELS = (Kernel("u8s8", 8, signed=True), Kernel("u8u8", 8, signed=False), Kernel("u8s7", 7, signed=True))


@dataclass(frozen=True)
class KernelReport:
    """What the self-test found: whether the kernel is exact here, and its speed."""

    name: str
    limb_bits: int
    exact: bool
    gmac_per_s: float


def _exact(kernel: Kernel) -> bool:
    """Every limb value against every weight in a row of its own, runs of the extremes, and random operands."""
    top = 2**kernel.limb_bits - 1
    rng = np.random.default_rng(7)
    values, signs = np.arange(top + 1), np.array([-127, -1, 0, 1, 127])
    k = 64
    extremes = np.broadcast_to(values, (1, k, top + 1)).astype(np.uint8)
    constant = np.repeat(signs[:, None], k, axis=1)
    alternating = np.where(np.arange(k) % 2, signs[:, None], -signs[:, None])
    random = rng.integers(-127, 128, (27, k))
    noise = rng.integers(0, top + 1, (3, k, 131))
    weights = np.concatenate([constant, alternating, random]).astype(np.int8)
    for limbs in (extremes, noise.astype(np.uint8), np.full((2, k, 64), top, np.uint8)):
        want = np.einsum("ok,lkm->lom", weights.astype(np.int64), limbs.astype(np.int64))
        if not np.array_equal(kernel.product(kernel.hold(limbs), weights), want):
            return False
    return True


def _speed(kernel: Kernel) -> float:
    """GMAC/s on a layer of middle size, best of three."""
    limbs = kernel.hold(np.full((4, 288, 2048), 3, np.uint8))
    weights = np.full((32, 288), 5, np.int8)
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        kernel.product(limbs, weights)
        best = min(best, time.perf_counter() - start)
    return limbs.size * len(weights) / best / 1e9


@lru_cache(maxsize=1)
def self_test() -> tuple[tuple[Kernel, KernelReport], ...]:
    """Every kernel of this build with its verdict on this machine."""
    results = []
    for kernel in KERNELS:
        exact = _exact(kernel)
        results.append((kernel, KernelReport(kernel.name, kernel.limb_bits, exact, _speed(kernel) if exact else 0.0)))
    return tuple(results)


def choose_kernel() -> Kernel:
    """The exact kernel with the most words per second.

    Raises:
        UnsafeMachineError: if none is exact.
    """
    exact = [(report.gmac_per_s * kernel.limb_bits, kernel) for kernel, report in self_test() if report.exact]
    if not exact:
        raise UnsafeMachineError("no integer product of this CPU is exact: encrypted layers cannot run here")
    return max(exact, key=lambda pair: pair[0])[1]
