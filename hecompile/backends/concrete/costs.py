"""What a linear circuit costs, before it is compiled: products of every weight with every word of the ciphertexts."""

from __future__ import annotations

import math

from hecompile.backends.base import Candidate, Cost
from hecompile.ir.graph import ModelGraph
from hecompile.ir.layers import LayerShape, secret_shapes

__all__ = ["layer_candidates"]

DIMENSION = 1550  # of the secret at eight bits times int8 weights; every further bit adds 40
MAC_NS = 0.8  # a weight times a word
ENCRYPT_US = 80.0  # an integer
DECRYPT_US = 50.0


def layer_cost(shape: LayerShape) -> Cost:
    """One element through one layer. Rounds are the region's."""
    geometry = shape.geometry
    inputs, outputs = math.prod(geometry.picture), geometry.rows * math.prod(geometry.grid)
    rows, columns = zip(*geometry.taps, strict=True)
    kernel = (max(rows) - min(rows) + 1) * (max(columns) - min(columns) + 1)
    return Cost(
        server_s=outputs * geometry.picture[0] * kernel * DIMENSION * MAC_NS * 1e-9,
        client_s=(inputs * ENCRYPT_US + outputs * DECRYPT_US) * 1e-6,
        up_bytes=inputs * 24,
        down_bytes=outputs * 8 * (DIMENSION + 1),
        peak_mib=(inputs + outputs) * 8 * DIMENSION / 2**20,
    )


def layer_candidates(graph: ModelGraph, backend: str) -> list[Candidate]:
    """One candidate per linear layer of secret data."""
    return [Candidate(shape.nodes, layer_cost(shape), backend) for shape in secret_shapes(graph)]
