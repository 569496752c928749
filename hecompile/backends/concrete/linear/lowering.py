"""Lowers layers whose values have limits to circuits, and a region to its two halves."""

from __future__ import annotations

import numpy as np

from hecompile.backends.concrete.circuits import linear_circuit
from hecompile.backends.concrete.linear.program import ConcreteLayer, LinearBody
from hecompile.backends.concrete.linear.stages import LimitedLinearOp
from hecompile.backends.program_io import Document
from hecompile.errors import InternalError
from hecompile.ir.halves import Array, ClientHalf, ServerHalf
from hecompile.ir.regions import AnyCall, CallRegion, Lowered

__all__ = ["lower_layers"]


def lower_layers(region: AnyCall, max_batch: int, p_error: float) -> Lowered:
    """Lower a region to its two halves. Every layer becomes a circuit, which is compiled and run once.

    Raises:
        CompileError: if Concrete finds no circuit with this error probability.
        InternalError: if the values of a layer have no limits yet.
    """
    if not isinstance(region, CallRegion):
        raise InternalError(f"region '{region.name}' holds more than linear layers")
    layers, client, server = [], dict[str, Array](), dict[str, Array]()
    for index, linear_op in enumerate(region.linear_ops):
        if not isinstance(linear_op, LimitedLinearOp):
            raise InternalError(f"region '{region.name}' is lowered before its values have limits")
        quantized = linear_op.quantized
        circuit = linear_circuit(linear_op.geometry, quantized.weights, linear_op.limits, p_error)
        layers.append(
            ConcreteLayer(
                linear_op.input, linear_op.images_per_sample, linear_op.geometry, linear_op.parts, linear_op.limits,
                circuit.largest, circuit.specs.text, circuit.run.request, circuit.run.reply,
            )
        )  # fmt: skip
        client[f"{index}.scales"], client[f"{index}.bias"] = quantized.dequantizer.weight_scales, quantized.dequantizer.bias
        server[f"{index}.mlir"] = np.frombuffer(circuit.mlir.encode(), np.uint8)
        server[f"{index}.keys"] = np.frombuffer(circuit.run.keys, np.uint8)
    body = LinearBody(max_batch, p_error, tuple(layers))
    document = Document(region.name, region.backend, region.inputs, region.outputs, body).as_json()
    return Lowered(ClientHalf(document, client), ServerHalf(document, server))
