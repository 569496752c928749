"""Taint: which values derive from a secret input."""

from __future__ import annotations

from hecompile.ir.graph import ModelGraph

__all__ = ["taint"]


def taint(graph: ModelGraph, public: frozenset[str]) -> dict[str, bool]:
    """Secret or not, by node name: an input is secret unless it is in `public`, a value is if one of its arguments is."""
    secret: dict[str, bool] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            secret[node.name] = node.name not in public
        else:
            read = node.all_input_nodes
            if str(node.target) == "aten.expand_as.default":
                read = read[:1]  # the second argument lends its shape only, which is public
            secret[node.name] = any(secret[argument.name] for argument in read)
    return secret
