"""Measuring this machine's primitives for a profile. A module of its own: a server must not know how keys are made."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np

from hecompile.cost.machine import Machine

__all__ = ["measure_machine"]


def _seconds(task: Callable[[], object], runs: int = 5) -> float:
    task()
    found = []
    for _ in range(runs):
        started = time.perf_counter()
        task()
        found.append(time.perf_counter() - started)
    return median(found)


def measure_machine(bandwidth_mbps: float = 1000.0, rtt_ms: float = 0.0) -> Machine:
    """Measure this machine's primitives, medians of five; some ten seconds. The network is not measured."""
    return Machine(**_server(), **_client(), bandwidth_mbps=bandwidth_mbps, rtt_ms=rtt_ms)


def _server() -> dict[str, float]:
    """The evaluator's parts on a layer of 64 channels."""
    from hecompile.backends.bfv.bits import pack_bits
    from hecompile.backends.bfv.evaluator import modulo
    from hecompile.backends.bfv.product import choose_kernel
    from hecompile.backends.fold import fold, rolled
    from hecompile.backends.packing import Layout, Packing
    from hecompile.ir.linear import conv2d

    rng, kernel, dimension, limbs = np.random.default_rng(0), choose_kernel(), 2048, 6
    geometry, _ = conv2d(np.ones((64, 64, 3, 3)), (16, 16), (1, 1), (1, 1), (1, 1), 1)
    layout = Layout(geometry, Packing(dimension, 1, 1, 16, 3, 2))
    extended = rng.integers(0, 255, (limbs, layout.uploads, 4 * dimension)).astype(np.uint8)
    terms = range(576)
    operand = np.empty((limbs, len(terms), dimension), np.uint8)
    weights = rng.integers(-127, 128, (64, 576)).astype(np.int8)
    roll_s = _seconds(lambda: rolled(extended, layout, terms, operand))
    sums = kernel.product(operand, weights)
    answers = np.zeros((limbs, layout.answers, dimension), np.int32)
    product_s = _seconds(lambda: kernel.product(operand, weights))
    fold_s = _seconds(lambda: fold(sums, layout, answers))
    modulo_s = _seconds(lambda: modulo(answers, 8, (1 << 47) - 115))
    words = rng.integers(0, 1 << 47, 64 * dimension).astype(np.uint64)
    return {
        "product_gmac_per_s": operand.size * 64 / product_s / 1e9,
        "roll_ns_per_byte": roll_s / operand.size * 1e9,
        "fold_ns_per_word": fold_s / sums.size * 1e9,
        "modulo_ns_per_word": modulo_s / answers[0].size * 1e9,
        "wire_ns_per_byte": _seconds(lambda: pack_bits(words, 47)) / (words.size * 47 / 8) * 1e9,
    }


def _client() -> dict[str, float]:
    """SEAL's parts, and float32 convolutions."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    from hecompile.backends.bfv.seal import SecretKey, expand_seeds, make_ring

    ring = make_ring(2048, 47, 1 << 25)
    key, polynomials = SecretKey(ring), np.random.default_rng(0).integers(-2047, 2048, (8, 2048))
    b, seeds = key.encrypt(polynomials)
    a = expand_seeds(ring, seeds)
    weight = numpy_helper.from_array(np.ones((64, 64, 3, 3), np.float32), "w")
    shape = [1, 64, 32, 32]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    picture = np.ones(shape, np.float32)
    float_s = _seconds(lambda: session.run(None, {"x": picture}))
    return {
        "encrypt_us": _seconds(lambda: key.encrypt(polynomials)) / 8 * 1e6,
        "decrypt_us": _seconds(lambda: key.decrypt(b, a)) / 8 * 1e6,
        "expand_us": _seconds(lambda: expand_seeds(ring, seeds)) / 8 * 1e6,
        "key_us": _seconds(lambda: SecretKey(ring)) * 1e6,
        "float_gmac_per_s": 64 * 64 * 9 * 32 * 32 / float_s / 1e9,
    }
