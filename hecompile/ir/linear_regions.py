"""Regions of a graph that grow from a node along what is linear in secrets; what joins is for predicates of the caller to say."""

from __future__ import annotations

from collections.abc import Callable

from torch import fx

from hecompile.ir.graph import ModelGraph, info, secret_operands
from hecompile.ir.ops import OPS

__all__ = ["LinearRegion", "linear_in_secrets"]

Predicate = Callable[[fx.Node], bool]


def linear_in_secrets(node: fx.Node) -> bool:
    """Whether a value is a linear function, up to a constant, of all the secrets that its operation reads."""
    op = OPS.get(str(node.target))
    if op is None or op.linear_in == "none":
        return False
    secrets = [arg for arg in node.args if isinstance(arg, fx.Node) and info(arg).secret]
    if op.linear_in == "one":
        return len(secrets) <= 1
    return op.linear_in == "all" or secrets in ([], [node.args[0]])


class LinearRegion:
    """Nodes that are taken one after the other.

    With a node come its operands, and theirs, that the region alone reads and that `before` admits. A reader of the region is taken
    by `grow` if it can follow.

    Args:
        before: whether an operand of the region joins it.
        taken: called with every node once its operands have joined.
    """

    def __init__(self, before: Predicate, taken: Callable[[fx.Node], None] | None = None) -> None:
        self.nodes: dict[fx.Node, None] = {}  # in the order in which they were taken
        self._before, self._taken = before, taken

    def take(self, node: fx.Node) -> None:
        """Take a node, and what only the region needs it for."""
        self.nodes[node] = None
        self._take_operands(node)
        if self._taken is not None:
            self._taken(node)

    def grow(self, graph: ModelGraph, after: Predicate) -> None:
        """Take readers of the region's values that `after` admits, and operands, until there are none.

        A reader joins only if nothing that it reads comes from the region by way of what is outside.
        """
        size = 0
        while size < len(self.nodes):
            size = len(self.nodes)
            for node in graph.nodes:
                reads = node not in self.nodes and any(operand in self.nodes for operand in secret_operands(node))
                if reads and not self.is_late(graph, node) and after(node):
                    self.take(node)
            for node in list(self.nodes):
                self._take_operands(node)

    def is_late(self, graph: ModelGraph, node: fx.Node) -> bool:
        """Whether the node reads a value outside that follows from the region: taking both would make a circle."""
        outside = [operand for operand in node.all_input_nodes if operand not in self.nodes]
        following = set(self.nodes)
        for each in graph.nodes if outside else ():
            if following.intersection(each.all_input_nodes):
                following.add(each)
        return not following.isdisjoint(outside)

    def made_by(self, layer: Predicate) -> set[fx.Node]:
        """The region's nodes that are layers, or are computed from layers of the region; it must not have grown by readers."""
        found = set[fx.Node]()
        for node in reversed(self.nodes):  # operands before their readers
            if layer(node) or not found.isdisjoint(node.all_input_nodes):
                found.add(node)
        return found

    def _take_operands(self, node: fx.Node) -> None:
        for operand in node.all_input_nodes:
            alone = operand.op == "call_function" and all(user in self.nodes for user in operand.users)
            if operand not in self.nodes and alone and self._before(operand):
                self.take(operand)
