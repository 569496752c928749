"""How large a model is, in multiply-adds."""

from __future__ import annotations

from math import prod

from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.ops import OPS

__all__ = ["gmac", "is_small"]

SMALL_GMAC = 0.1  # digits has 0.004: second threads that wait for a busy core took 20 times as long as one


def gmac(graph: ModelGraph) -> float:
    """Multiply-adds of the linear layers at batch one, in 10^9."""
    total = 0
    for node in graph.nodes:
        if node.op == "call_function" and str(node.target) in OPS and OPS[str(node.target)].kind == "linear":
            weight = info(node.args[1]).shape
            shape = info(node).shape
            positions = shape[2:] if len(weight) == 4 else shape[1:-1]
            total += prod(int(size) for size in weight if isinstance(size, int)) * prod(int(str(size)) for size in positions)
    return total / 1e9


def is_small(graph: ModelGraph) -> bool:
    """Whether one thread computes the model sooner than several, on a machine that others use too."""
    return gmac(graph) <= SMALL_GMAC
