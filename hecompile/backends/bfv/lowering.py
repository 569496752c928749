"""From packed products to a region's document and its two halves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hecompile.backends.bfv.parameters import Parameters
from hecompile.backends.bfv.program import LayerProgram, PackingRow, RegionBody
from hecompile.backends.bfv.stages import PackedProduct
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
    for index, product in enumerate(region.products):
        if not isinstance(product, PackedProduct):
            raise InternalError(f"region '{region.name}' is lowered before it is packed")
        layers.append(_layer_program(product, prime(product.parameterized.parameters)))
        readout = product.parameterized.quantized.readout
        client[f"{index}.scales"], client[f"{index}.bias"] = readout.weight_scales, readout.bias
        split, weights = product.split, product.parameterized.quantized.weights
        server[f"{index}.weights"] = np.ascontiguousarray(split.encrypted_of(weights, product.geometry))
        if split.released:  # with tiles they are the same weights
            server[f"{index}.released"] = np.ascontiguousarray(split.released_of(weights, product.geometry))
    document = Document(region.name, backend, region.inputs, region.outputs, RegionBody(tuple(layers))).as_json()
    return Lowered(ClientHalf(document, client), ServerHalf(document, server))


def _layer_program(product: PackedProduct, q: int) -> LayerProgram:
    rows = []
    for choice in product.choices:
        packing = choice.layout.packing
        rows.append(
            PackingRow(
                packing.share, packing.tile_rows, packing.p_in, packing.p_out, choice.drop_b, choice.drop_a,
                choice.proof, round(choice.noise_bits, 3), round(choice.budget_bits, 3),
            )
        )  # fmt: skip
    parameters = product.parameterized.parameters
    return LayerProgram(
        product.input, product.multiple, product.geometry, product.parts, product.split, parameters, q, product.requests,
        tuple(rows),
    )  # fmt: skip
