"""Whether there are parameters for a group of layers, asked before anything is built on them."""

from __future__ import annotations

from hecompile.backends.bfv.choose import Weights, choose
from hecompile.backends.bfv.parameters import DIMENSIONS, MAX_WORD_BITS
from hecompile.backends.bfv.provable import carriers
from hecompile.ir.layer_groups import Stack
from hecompile.machine import Machine
from hecompile.security.table import max_q_bits

__all__ = ["carried"]


def carried(group: Stack, security_bits: int) -> bool:
    """Whether select-parameters will find some: for its weights, or for the largest there can be if it has none.

    Without weights a proof for answers of one output is enough, which is quick: there are hundreds of layers.
    """
    split, values = group.split, group.weights
    row_norm = Weights(group.geometry, values).row_norm
    encrypted = None if values is None else split.encrypted_of(values, group.geometry)
    weights = Weights(split.encrypted_geometry(group.geometry), encrypted, row_norm, split.slots)
    if values is not None:
        return choose(weights, group.multiple, Machine(), security_bits=security_bits) is not None
    most = min(MAX_WORD_BITS, *(max_q_bits(dimension, security_bits) for dimension in DIMENSIONS))
    return bool(carriers(weights.single_norms, row_norm, most))
