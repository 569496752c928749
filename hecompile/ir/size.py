"""How large a model is, in multiply-adds."""

from __future__ import annotations

from math import prod

from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.ops import OPS
from hecompile.ir.shapes import ones_for_batch

__all__ = ["gmac", "is_small"]

SMALL_GMAC = 0.1  # digits has 0.004: second threads that wait for a busy core took 20 times as long as one


def gmac(graph: ModelGraph) -> float:
    """Multiply-adds of the linear layers at batch one, in 10^9. Layers may read the batch at any dimension, and several pictures
    per element of it."""
    total = 0
    for node in graph.nodes:
        if node.op == "call_function" and str(node.target) in OPS and OPS[str(node.target)].kind == "linear":
            weight, shape = (ones_for_batch(info(each).shape) for each in (node.args[1], node))
            positions = (shape[0], *shape[2:]) if len(weight) == 4 else shape[:-1]
            total += prod(weight) * prod(positions)
    return total / 1e9


def is_small(graph: ModelGraph) -> bool:
    """Whether one thread computes the model sooner than several, on a machine that others use too."""
    return gmac(graph) <= SMALL_GMAC
