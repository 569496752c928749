"""Cuts a piece out of a graph, as a graph of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hecompile.ir.graph import ModelGraph, info, set_info

if TYPE_CHECKING:
    from torch import fx

__all__ = ["cut"]


def _read_outside(node: fx.Node, inside: set[fx.Node]) -> bool:
    """Return whether any node outside the piece reads this node's value."""
    return any(user not in inside for user in node.users)


def cut(graph: ModelGraph, nodes: list[fx.Node]) -> tuple[fx.GraphModule, tuple[str, ...], tuple[str, ...]]:
    """Return a graph module of these nodes, and the names of its inputs and outputs.

    Constants are shared with the graph. What the nodes read from outside are inputs; what is read outside are outputs.
    """
    from torch import fx

    new, mapping, inside = fx.Graph(), dict[fx.Node, fx.Node](), set(nodes)
    arguments = list(dict.fromkeys(argument for node in nodes for argument in node.all_input_nodes))
    revealed = {argument: argument.all_input_nodes[0] for argument in arguments if info(argument).domain == "server_clear"}
    read = dict.fromkeys(revealed.get(argument, argument) for argument in arguments)  # the client reads what a reveal reads
    inputs = [argument for argument in read if argument not in inside and argument.op != "get_attr"]
    for argument in inputs:
        mapping[argument] = new.create_node("placeholder", argument.name, name=argument.name)  # placeholder() renames capitals
        set_info(mapping[argument], info(argument))
    for node in [*(argument for argument in arguments if argument.op == "get_attr"), *nodes]:
        mapping[node] = new.node_copy(node, lambda old: mapping[revealed.get(old, old)])
    outputs = [node for node in nodes if _read_outside(node, inside)]
    new.output(tuple(mapping[node] for node in outputs))
    module = fx.GraphModule(graph.graph_module, new)
    return module, tuple(node.name for node in inputs), tuple(node.name for node in outputs)
