"""Finds the values that are the same at every step of a sampling run: what reads only these is sent once per run."""

from __future__ import annotations

from hecompile.ir.graph import ModelGraph

__all__ = ["constant_in_a_run"]


def constant_in_a_run(graph: ModelGraph) -> dict[str, bool]:
    """For every node by name, whether its value depends on constants and per-run inputs alone."""
    constant: dict[str, bool] = {spec.name: spec.per_run for spec in graph.inputs}
    for node in graph.nodes:
        if node.op == "placeholder":
            continue
        constant[node.name] = all(constant[argument.name] for argument in node.all_input_nodes)
    return constant
