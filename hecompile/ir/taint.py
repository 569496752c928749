"""Taint analysis: finds which values derive from a secret input."""

from __future__ import annotations

from hecompile.ir.graph import ModelGraph

__all__ = ["taint"]


def taint(graph: ModelGraph, public: frozenset[str]) -> dict[str, bool]:
    """For every node by name, whether it is secret: inputs are, except those in `public`, and so is what reads a secret value."""
    secret: dict[str, bool] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            secret[node.name] = node.name not in public
        else:
            read = node.all_input_nodes
            if str(node.target) == "aten.expand_as.default":
                read = read[:1]  # of the second argument only the shape is read, which is public
            secret[node.name] = any(secret[argument.name] for argument in read)
    return secret
