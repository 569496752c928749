"""Grows a region of a graph from a node, along operations that are linear in secrets. The caller's predicates say what joins."""

from __future__ import annotations

from collections.abc import Callable

from torch import fx

from hecompile.ir.graph import ModelGraph, info, secret_operands
from hecompile.ir.ops import OPS

__all__ = ["LinearRegion", "linear_in_secrets"]

Predicate = Callable[[fx.Node], bool]


def linear_in_secrets(node: fx.Node) -> bool:
    """Return whether a node's value is a linear function, plus a constant, of all secret values that the node reads."""
    op = OPS.get(str(node.target))
    if op is None or op.linear_in == "none":
        return False
    secrets = [arg for arg in node.args if isinstance(arg, fx.Node) and info(arg).secret]
    if op.linear_in == "one":
        return len(secrets) <= 1
    return op.linear_in == "all" or secrets in ([], [node.args[0]])


class LinearRegion:
    """A region to which nodes are added one after the other.

    `take` adds a node with those of its operands, and their operands, which no node outside the region reads and which `before`
    admits. `grow` adds nodes that read values of the region.

    Args:
        before: returns whether an operand may join.
        taken: is called with every node after its operands have joined.
    """

    def __init__(self, before: Predicate, taken: Callable[[fx.Node], None] | None = None) -> None:
        self.nodes: dict[fx.Node, None] = {}  # in the order in which they were taken
        self._before, self._taken = before, taken

    def take(self, node: fx.Node) -> None:
        """Add a node, and its operands that only the region reads."""
        self.nodes[node] = None
        self._take_operands(node)
        if self._taken is not None:
            self._taken(node)

    def grow(self, graph: ModelGraph, after: Predicate) -> None:
        """Add nodes that read values of the region and that `after` admits, with their operands, until there are no more.

        A node cannot join if it would make a cycle (see `is_late`).
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
        """True if adding this node would make a cycle: an operand depends on the region through a node outside it."""
        outside = [operand for operand in node.all_input_nodes if operand not in self.nodes]
        following = set(self.nodes)
        for other in graph.nodes if outside else ():
            if following.intersection(other.all_input_nodes):
                following.add(other)
        return not following.isdisjoint(outside)

    def made_by(self, layer: Predicate) -> set[fx.Node]:
        """Return the region's nodes that are layers, or depend on layers of the region. Call it before `grow`."""
        dependent = set[fx.Node]()
        for node in reversed(self.nodes):  # operands before their readers
            if layer(node) or not dependent.isdisjoint(node.all_input_nodes):
                dependent.add(node)
        return dependent

    def _take_operands(self, node: fx.Node) -> None:
        for operand in node.all_input_nodes:
            alone = operand.op == "call_function" and all(user in self.nodes for user in operand.users)
            if operand not in self.nodes and alone and self._before(operand):
                self.take(operand)
