"""What a linear circuit costs, before it is compiled: products of every weight with every word of the ciphertexts.

The dimension of the secret is the least that hides noise so small that every result decrypts rightly with the declared
probability (`hecompile.security.lwe`): Concrete chooses the same one up to two in a hundred.
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
    from hecompile.ir.layer_groups import Stack
    from hecompile.machine import Machine

__all__ = ["circuit_cost", "dimension_for", "layer_candidates", "layer_prices", "words_cost"]

P_ERROR = 2.0**-40
UP_WORDS = 3  # of a seeded ciphertext


def dimension_for(geometry: Geometry, weights: npt.NDArray[np.int8] | None, p_error: float = P_ERROR) -> int:
    """The dimension of a layer's ciphertexts; for the largest weights there can be if it has none.

    A message of `width` bits has steps of 2^-(width + 1), one bit above it being left free, and a result's noise is that of the
    inputs times the 2-norm of a row.
    """
    if weights is None:
        weights = np.full((1, geometry.picture[0], len(geometry.taps)), 127, np.int8)
    width = largest_result(geometry, weights, limits_for(geometry, weights)).bit_length() + 1
    norm = math.sqrt(float(np.square(weights.astype(np.float64)).reshape(len(weights), -1).sum(axis=1).max())) or 1.0
    deviations = -NormalDist().inv_cdf(p_error / 2)
    return least_dimension(-(width + 2) - math.log2(deviations * norm))


def circuit_cost(geometry: Geometry, dimension: int, machine: Machine, elements: int = 1) -> Cost:
    """Some elements through one layer. Rounds are the region's."""
    products = geometry.rows * geometry.picture[0] * products_of(geometry)
    return words_cost(products, math.prod(geometry.picture), geometry.rows * math.prod(geometry.grid), dimension, machine, elements)


def words_cost(products: int, inputs: int, outputs: int, dimension: int, machine: Machine, elements: int = 1) -> Cost:
    """The same of any circuit without lookups: products of an integer and a ciphertext, integers that come and go."""
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
    """One element through one layer, before its weights are known."""
    return circuit_cost(shape.geometry, dimension_for(shape.geometry, None), machine, shape.multiple)


def layer_candidates(graph: ModelGraph, machine: Machine, backend: str) -> list[Candidate]:
    """One candidate per linear layer of secret data."""
    return [Candidate(shape.nodes, layer_cost(shape, machine), backend) for shape in secret_shapes(graph)]


def layer_prices(group: Stack, machine: Machine, batch: int) -> list[LayerPrice]:
    """The price of a group of layers, all encrypted; none for a group that shows a part of its input."""
    if not group.split.whole:
        return []
    geometry, weights = group.geometry, group.weights
    limit = LIMIT if weights is None else limits_for(geometry, weights).entry
    return [LayerPrice(circuit_cost(geometry, dimension_for(geometry, weights), machine, group.multiple * batch), limit)]
