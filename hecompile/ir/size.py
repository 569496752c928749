"""The size of a model in multiply-adds."""

from __future__ import annotations

from math import prod

from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.ops import OPS
from hecompile.ir.shapes import ones_for_batch

__all__ = ["gmac", "is_small"]

SMALL_GMAC = 0.1  # the digits model has 0.004; on a busy machine several threads took 20 times as long for it as one thread


def gmac(graph: ModelGraph) -> float:
    """Return the multiply-adds of the linear layers at batch size one, in 10^9. A layer may have the batch at any dimension."""
    total = 0
    for node in graph.nodes:
        if node.op == "call_function" and str(node.target) in OPS and OPS[str(node.target)].kind == "linear":
            weight, shape = (ones_for_batch(info(tensor).shape) for tensor in (node.args[1], node))
            positions = (shape[0], *shape[2:]) if len(weight) == 4 else shape[:-1]
            total += prod(weight) * prod(positions)
    return total / 1e9


def is_small(graph: ModelGraph) -> bool:
    """Return whether the model is so small that one thread computes it sooner than several threads do on a busy machine."""
    return gmac(graph) <= SMALL_GMAC
