"""From limited products to circuits, a region's document and its two halves."""

from __future__ import annotations

import numpy as np

from hecompile.backends.concrete.circuits import linear_circuit
from hecompile.backends.concrete.linear.program import LayerProgram, LinearBody
from hecompile.backends.concrete.linear.stages import LimitedProduct
from hecompile.backends.program_io import Document
from hecompile.errors import InternalError
from hecompile.ir.halves import Array, ClientHalf, ServerHalf
from hecompile.ir.regions import AnyCall, CallRegion, Lowered

__all__ = ["lower_layers"]


def lower_layers(region: AnyCall, max_batch: int, p_error: float) -> Lowered:
    """Both halves: a circuit per layer, each compiled and tried.

    Raises:
        CompileError: if Concrete takes no circuit with this probability of an error.
        InternalError: if the values of a layer have no limits yet.
    """
    if not isinstance(region, CallRegion):
        raise InternalError(f"region '{region.name}' holds more than linear layers")
    layers, client, server = [], dict[str, Array](), dict[str, Array]()
    for index, product in enumerate(region.products):
        if not isinstance(product, LimitedProduct):
            raise InternalError(f"region '{region.name}' is lowered before its values have a limit")
        quantized = product.quantized
        circuit = linear_circuit(product.geometry, quantized.weights, product.limits, p_error)
        layers.append(
            LayerProgram(
                product.input, product.multiple, product.geometry, product.parts, product.limits, circuit.largest,
                circuit.specs.text, circuit.trial.request, circuit.trial.reply,
            )
        )  # fmt: skip
        client[f"{index}.scales"], client[f"{index}.bias"] = quantized.readout.weight_scales, quantized.readout.bias
        server[f"{index}.mlir"] = np.frombuffer(circuit.mlir.encode(), np.uint8)
        server[f"{index}.keys"] = np.frombuffer(circuit.trial.keys, np.uint8)
    body = LinearBody(max_batch, p_error, tuple(layers))
    document = Document(region.name, region.backend, region.inputs, region.outputs, body).as_json()
    return Lowered(ClientHalf(document, client), ServerHalf(document, server))
