"""Pieces of a graph as graphs of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hecompile.ir.graph import ModelGraph, info, set_info

if TYPE_CHECKING:
    from torch import fx

__all__ = ["cut"]


def _read_outside(node: fx.Node, inside: set[fx.Node]) -> bool:
    """Whether another region or the caller needs this value. A folded upsampling is read by its own region only."""
    return any(user not in inside for user in node.users)


def cut(graph: ModelGraph, nodes: list[fx.Node]) -> tuple[fx.GraphModule, tuple[str, ...], tuple[str, ...]]:
    """The nodes as a graph module of their own with its inputs and outputs; constants are shared, other arguments are inputs."""
    from torch import fx

    new, mapping, inside = fx.Graph(), dict[fx.Node, fx.Node](), set(nodes)
    arguments = list(dict.fromkeys(argument for node in nodes for argument in node.all_input_nodes))
    shown = {argument: argument.all_input_nodes[0] for argument in arguments if info(argument).domain == "server_clear"}
    read = dict.fromkeys(shown.get(argument, argument) for argument in arguments)  # beside the server, a release is its value
    inputs = [argument for argument in read if argument not in inside and argument.op != "get_attr"]
    for argument in inputs:
        mapping[argument] = new.create_node("placeholder", argument.name, name=argument.name)  # placeholder() renames capitals
        set_info(mapping[argument], info(argument))
    for node in [*(argument for argument in arguments if argument.op == "get_attr"), *nodes]:
        mapping[node] = new.node_copy(node, lambda old: mapping[shown.get(old, old)])
    outputs = [node for node in nodes if _read_outside(node, inside)]
    new.output(tuple(mapping[node] for node in outputs))
    module = fx.GraphModule(graph.graph_module, new)
    return module, tuple(node.name for node in inputs), tuple(node.name for node in outputs)
