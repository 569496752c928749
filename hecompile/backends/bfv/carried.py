"""Whether some parameters carry a group of layers, asked before layers are divided and priced."""

from __future__ import annotations

from hecompile.backends.bfv.choose import Weights, choose
from hecompile.backends.bfv.parameters import DIMENSIONS, MAX_WORD_BITS
from hecompile.backends.bfv.provable import carriers
from hecompile.ir.layer_groups import LayerGroup
from hecompile.machine import Machine
from hecompile.security.table import max_q_bits

__all__ = ["carried"]


def carried(group: LayerGroup, security_bits: int) -> bool:
    """Whether select-parameters will find parameters for the group's weights, or for the largest possible weights if it has none.

    Without weights, only the proof for answers with one output is tried. That is quick, and there may be hundreds of layers.
    """
    split, values = group.split, group.weights
    row_norm = Weights(group.geometry, values).row_norm
    encrypted = None if values is None else split.encrypted_of(values, group.geometry)
    weights = Weights(split.encrypted_geometry(group.geometry), encrypted, row_norm, split.tiles_per_picture)
    if values is not None:
        return choose(weights, group.images_per_sample, Machine(), security_bits=security_bits) is not None
    most = min(MAX_WORD_BITS, *(max_q_bits(dimension, security_bits) for dimension in DIMENSIONS))
    return bool(carriers(weights.single_norms, row_norm, most))
