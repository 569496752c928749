"""Predicts what a linear circuit costs before it is compiled: every weight is multiplied with every word of the ciphertexts.

The noise must be so small that every result decrypts correctly but for the declared probability. The dimension of the secret is the
least at which such noise is secure (`hecompile.security.lwe`). Concrete chooses the same dimension to within two percent.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hecompile.backends.concrete.limits import LIMIT
from hecompile.backends.concrete.spans import products_of
from hecompile.backends.concrete.windows import largest_result, limits_for
from hecompile.ir.candidates import Candidate, Cost, LayerPrice
from hecompile.ir.graph import ModelGraph
from hecompile.ir.layers import LayerShape, secret_shapes
from hecompile.ir.linear import Geometry
from hecompile.security.lwe import least_dimension

if TYPE_CHECKING:
    from hecompile.ir.layer_groups import LayerGroup
    from hecompile.machine import Machine

__all__ = ["circuit_cost", "dimension_for", "layer_candidates", "layer_prices", "words_cost"]

P_ERROR = 2.0**-40
UP_WORDS = 3  # words of a seeded ciphertext, which is what requests hold


def dimension_for(geometry: Geometry, weights: npt.NDArray[np.int8] | None, p_error: float = P_ERROR) -> int:
    """The dimension of a layer's ciphertexts. If `weights` is None the largest int8 weights are assumed.

    A message of `width` bits has steps of 2^-(width + 1), since one bit above it is left free. A result's noise is that of the
    inputs times the 2-norm of a row of weights.
    """
    if weights is None:
        weights = np.full((1, geometry.picture[0], len(geometry.taps)), 127, np.int8)
    width = largest_result(geometry, weights, limits_for(geometry, weights)).bit_length() + 1
    norm = math.sqrt(float(np.square(weights.astype(np.float64)).reshape(len(weights), -1).sum(axis=1).max())) or 1.0
    deviations = -NormalDist().inv_cdf(p_error / 2)
    return least_dimension(-(width + 2) - math.log2(deviations * norm))


def circuit_cost(geometry: Geometry, dimension: int, machine: Machine, elements: int = 1) -> Cost:
    """Predicted cost of one layer for this many elements of a batch. Rounds are counted for the region, not here."""
    products = geometry.rows * geometry.picture[0] * products_of(geometry)
    return words_cost(products, math.prod(geometry.picture), geometry.rows * math.prod(geometry.grid), dimension, machine, elements)


def words_cost(products: int, inputs: int, outputs: int, dimension: int, machine: Machine, elements: int = 1) -> Cost:
    """Predicted cost of any circuit without table lookups, for this many elements of a batch.

    Args:
        products: of an integer and a ciphertext, for one element.
        inputs: integers of a request, for one element.
        outputs: integers of a reply, for one element.
    """
    server_us = products * (dimension + 1) * machine.lwe_ps * 1e-6
    server_us += inputs * machine.lwe_expand_us + outputs * machine.lwe_answer_us
    client_us = inputs * machine.lwe_encrypt_us + outputs * machine.lwe_decrypt_us
    return Cost(
        server_s=elements * server_us * 1e-6,
        client_s=elements * client_us * 1e-6,
        up_bytes=elements * inputs * 8 * UP_WORDS,
        down_bytes=elements * outputs * 8 * (dimension + 1),
        peak_mib=(inputs + outputs) * 8 * (dimension + 1) / 2**20,
    )


def layer_cost(shape: LayerShape, machine: Machine) -> Cost:
    """Predicted cost of a layer for one element of the batch, before its weights are known."""
    return circuit_cost(shape.geometry, dimension_for(shape.geometry, None), machine, shape.images_per_sample)


def layer_candidates(graph: ModelGraph, machine: Machine, backend: str) -> list[Candidate]:
    """Return one candidate for every linear layer that reads secret data."""
    return [Candidate(shape.nodes, layer_cost(shape, machine), backend) for shape in secret_shapes(graph)]


def layer_prices(group: LayerGroup, machine: Machine, batch: int) -> list[LayerPrice]:
    """The price of a group of layers, all encrypted; none for a group that reveals a part of its input."""
    if not group.split.whole:
        return []
    geometry, weights = group.geometry, group.weights
    limit = LIMIT if weights is None else limits_for(geometry, weights).entry
    return [LayerPrice(circuit_cost(geometry, dimension_for(geometry, weights), machine, group.images_per_sample * batch), limit)]
