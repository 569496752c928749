"""The integer product on ciphertext words, exact on every CPU it agrees to run on.

A word below 2^60 is split into unsigned limbs of 7 or 8 bits; int8 weights times one limb is a `MatMulInteger` of ONNX Runtime
with 32-bit sums (DESIGN section 3). Which operand order and limb width are exact and fast depends on the CPU: without VNNI,
u8 * s8 saturates in int16 and one wrong limb destroys a ciphertext. So every kernel proves itself at start on the extreme and on
random operands, and the fastest exact one is used.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from hecompile.errors import HecompileError

__all__ = ["KERNELS", "Kernel", "KernelReport", "UnsafeMachineError", "choose_kernel", "self_test"]

Bytes = npt.NDArray[np.uint8]
Sums = npt.NDArray[np.int32]


class UnsafeMachineError(HecompileError):
    """No kernel of this machine multiplies integers exactly: the server refuses to start."""


class Kernel(ABC):
    """`product(limbs, weights)`: (L, K, M) limbs and (O, K) int8 weights to (L, O, M) int32 sums."""

    name: str
    limb_bits: int
    max_k: int  # longest sum that cannot overflow int32

    @abstractmethod
    def product(self, limbs: Bytes, weights: npt.NDArray[np.int8]) -> Sums:
        """Exact sums over K, for K up to `max_k`."""


def _session(left: str, transpose: bool) -> object:
    """An ONNX Runtime session of one `MatMulInteger`; `transpose` swaps the last two dimensions of the limbs first."""
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    if left == "weights":
        nodes = [helper.make_node("MatMulInteger", ["weights", "limbs", "zero"], ["sums"])]
        weight_type, zero = TensorProto.UINT8, [128]
        zeros = [helper.make_tensor("zero", TensorProto.UINT8, [], zero)]
    else:
        nodes = [
            helper.make_node("Transpose", ["limbs"], ["turned"], perm=[0, 2, 1]),
            helper.make_node("MatMulInteger", ["turned", "weights"], ["sums"]),
        ]
        weight_type, zeros = TensorProto.INT8, []
    graph = helper.make_graph(
        nodes,
        "product",
        [
            helper.make_tensor_value_info("limbs", TensorProto.UINT8, ["L", "K", "M"]),
            helper.make_tensor_value_info("weights", weight_type, ["X", "Y"]),
        ],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, ["L", "A", "B"])],
        zeros,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = True
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


class WeightsLeft(Kernel):
    """Unsigned times unsigned, weights offset by a zero point of 128: exact without VNNI, nothing is transposed."""

    name, limb_bits, max_k = "u8u8", 8, (2**31 - 1) // (255 * 255)

    def __init__(self) -> None:
        self._run = _session("weights", transpose=False).run  # type: ignore[attr-defined]

    def product(self, limbs: Bytes, weights: npt.NDArray[np.int8]) -> Sums:
        shifted = (weights.astype(np.int16) + 128).astype(np.uint8)
        sums: Sums = self._run(None, {"limbs": limbs, "weights": shifted})[0]
        return sums


class LimbsLeft(Kernel):
    """Unsigned limbs times signed weights, the order that VNNI instructions want: (M, K) @ (K, O)."""

    name, limb_bits, max_k = "u8s8", 8, (2**31 - 1) // (255 * 127)

    def __init__(self) -> None:
        self._run = _session("limbs", transpose=True).run  # type: ignore[attr-defined]

    def product(self, limbs: Bytes, weights: npt.NDArray[np.int8]) -> Sums:
        turned = np.ascontiguousarray(weights.T)
        sums: Sums = self._run(None, {"limbs": limbs, "weights": turned})[0]
        return sums.transpose(0, 2, 1)


class ShortLimbsLeft(LimbsLeft):
    """The same with 7-bit limbs: pairs of products fit int16, so saturating CPUs are exact too."""

    name, limb_bits, max_k = "u7s8", 7, (2**31 - 1) // (127 * 127)


KERNELS: tuple[type[Kernel], ...] = (LimbsLeft, WeightsLeft, ShortLimbsLeft)


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
        if not np.array_equal(kernel.product(np.ascontiguousarray(limbs), weights), want):
            return False
    return True


def _speed(kernel: Kernel) -> float:
    """GMAC/s on a layer of middle size, best of three."""
    limbs = np.full((4, 288, 2048), 3, np.uint8)
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
    for kind in KERNELS:
        kernel = kind()
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
