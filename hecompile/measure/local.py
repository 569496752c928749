"""Measures what a client computes in the clear: convolutions, and elementwise operations by their number and their entries."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from hecompile.onnx_sessions import OnnxSession

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

__all__ = ["measure_local"]

OPERATIONS = 20  # in a row
SMALL, LARGE = (1, 16, 8, 8), (1, 64, 64, 64)  # shapes of the values that they compute


def measure_local(runs: int) -> dict[str, float]:
    """Measure the fields of a profile that are about a client's own regions in ONNX Runtime."""
    from hecompile.timing import process_seconds

    def timed(session: OnnxSession, shape: tuple[int, ...]) -> float:
        value = {"x": np.full(shape, 0.5, np.float32)}
        return process_seconds(lambda: session.run(None, value), runs)

    small_s, large_s = (timed(_activations(shape), shape) for shape in (SMALL, LARGE))
    float_s = timed(_conv(), (1, 64, 32, 32))
    entries = (np.prod(LARGE) - np.prod(SMALL)) * OPERATIONS
    entry_s = max(large_s - small_s, 0.0) / float(entries)
    return {
        "float_ps": float_s / (64 * 64 * 9 * 32 * 32) * 1e12,
        "entry_ns": entry_s * 1e9,
        "node_us": max(small_s / OPERATIONS - entry_s * float(np.prod(SMALL)), 0.0) * 1e6,
    }


def _session(nodes: Sequence[NodeProto], shape: tuple[int, ...], constants: Sequence[TensorProto] = ()) -> OnnxSession:
    """A session of ONNX Runtime for nodes from `x` to `y`, both of one shape."""
    from onnx import TensorProto, helper

    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "local", values[:1], values[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return OnnxSession(model.SerializeToString())


def _activations(shape: tuple[int, ...]) -> OnnxSession:
    """A session of sigmoids and products in turn, of which activations are made."""
    from onnx import helper

    names = ["x", *(f"v{place}" for place in range(1, OPERATIONS)), "y"]
    pairs = list(pairwise(names))
    nodes = [
        helper.make_node(("Sigmoid", "Mul")[place % 2], [old, "x"][: 1 + place % 2], [new])
        for place, (old, new) in enumerate(pairs)
    ]
    return _session(nodes, shape)


def _conv() -> OnnxSession:
    """A session with one 3x3 convolution of 64 channels."""
    from onnx import helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((64, 64, 3, 3), np.float32), "w")
    return _session([helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])], (1, 64, 32, 32), [weight])
