"""Makes of a region's packed linear layers the document and the two halves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hecompile.backends.bfv.parameters import Parameters
from hecompile.backends.bfv.program import LayerProgram, PackingRow, RegionBody
from hecompile.backends.bfv.stages import PackedLinearOp
from hecompile.backends.program_io import Document
from hecompile.errors import InternalError
from hecompile.ir.halves import Array, ClientHalf, ServerHalf
from hecompile.ir.regions import AnyCall, CallRegion, Lowered

__all__ = ["lower_layers"]


def lower_layers(region: AnyCall, backend: str, prime: Callable[[Parameters], int]) -> Lowered:
    """Both halves of a region of packed products: scales and biases for the client, int8 weights for the server.

    Args:
        prime: the ciphertext modulus for parameters.

    Raises:
        InternalError: if the region is not packed.
    """
    if not isinstance(region, CallRegion):
        raise InternalError(f"region '{region.name}' holds more than linear layers")
    layers, client, server = [], dict[str, Array](), dict[str, Array]()
    for index, linear_op in enumerate(region.linear_ops):
        if not isinstance(linear_op, PackedLinearOp):
            raise InternalError(f"region '{region.name}' is lowered before it is packed")
        layers.append(_layer_program(linear_op, prime(linear_op.parameterized.parameters)))
        dequantizer = linear_op.parameterized.quantized.dequantizer
        client[f"{index}.scales"], client[f"{index}.bias"] = dequantizer.weight_scales, dequantizer.bias
        split, weights = linear_op.split, linear_op.parameterized.quantized.weights
        server[f"{index}.weights"] = np.ascontiguousarray(split.encrypted_of(weights, linear_op.geometry))
        if split.revealed:  # with tiles, the encrypted weights serve revealed entries too
            server[f"{index}.revealed"] = np.ascontiguousarray(split.revealed_of(weights, linear_op.geometry))
    document = Document(region.name, backend, region.inputs, region.outputs, RegionBody(tuple(layers))).as_json()
    return Lowered(ClientHalf(document, client), ServerHalf(document, server))


def _layer_program(linear_op: PackedLinearOp, q: int) -> LayerProgram:
    rows = []
    for choice in linear_op.choices:
        packing = choice.layout.packing
        rows.append(
            PackingRow(
                packing.images_per_poly, packing.band_rows, packing.p_in, packing.p_out, choice.drop_b, choice.drop_a,
                choice.proof, round(choice.noise_bits, 3), round(choice.budget_bits, 3),
            )
        )  # fmt: skip
    parameters = linear_op.parameterized.parameters
    return LayerProgram(
        linear_op.input, linear_op.images_per_sample, linear_op.geometry, linear_op.parts, linear_op.split, parameters, q,
        linear_op.requests, tuple(rows),
    )  # fmt: skip
