"""Which nodes a `ckks` region takes: polynomials with the linear layers before and after them, as far as the levels reach.

Between two answers the client has every value in clear; what it computes there is exact and costs no level. So a region begins at
the layers whose inputs the client has, goes through polynomials, and ends where an exact activation or norm, or a value that comes
later, is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hecompile.backends.ckks.polynomial import depth_of
from hecompile.ir.graph import ModelGraph, info, secret_operands
from hecompile.ir.linear_regions import LinearRegion, linear_in_secrets
from hecompile.ir.ops import CONVOLUTIONS, POLYNOMIAL, SUMS

if TYPE_CHECKING:
    from torch import fx

__all__ = ["MOST_DEPTH", "chains", "is_lookup", "peeled"]

MOST_DEPTH = 12  # levels of a region at dimension 16384
MOST_LAYERS = 2  # in a row: more would take levels that another round costs less than
LINEAR = (*CONVOLUTIONS, *SUMS, "aten.mul.Tensor", "aten.neg.default")
LOOKUP = ("aten.reshape.default", "aten.embedding.default", "aten.to.dtype", "aten.clamp.default", "aten.floor.default",
          "aten.div.Tensor", "aten.mul.Tensor")  # fmt: skip


def _carried(node: fx.Node) -> bool:
    """Whether a region can hold the node at all: pictures, and linear in what is secret."""
    if not info(node).secret or len(info(node).shape) != 4:
        return False
    return str(node.target) == POLYNOMIAL or (str(node.target) in LINEAR and linear_in_secrets(node))


def is_lookup(node: fx.Node) -> bool:
    """Whether a public value is the row of a table for the timestep's bin: the same at all timesteps of a bin."""
    if node.op != "call_function" or info(node).secret:
        return False
    name = str(node.target)
    if name == "aten.embedding.default":
        return True
    return name == "aten.reshape.default" and isinstance(node.args[0], type(node)) and is_lookup(node.args[0])


def peeled(node: fx.Node) -> fx.Node:
    """The value under scales and shifts that are constants or looked up by the timestep."""
    while str(node.target) in ("aten.add.Tensor", "aten.mul.Tensor"):
        secrets = secret_operands(node)
        others = [each for each in node.all_input_nodes if each not in secrets]
        if len(secrets) != 1 or not all(each.op == "get_attr" or is_lookup(each) for each in others):
            break
        node = secrets[0]
    return node


def chains(graph: ModelGraph) -> list[tuple[str, ...]]:
    """The nodes of every region, in execution order, around the polynomials of pictures."""
    taken, found = set[str](), list[tuple[str, ...]]()
    for node in graph.nodes:
        if str(node.target) == POLYNOMIAL and _carried(node) and node.name not in taken:
            nodes = _Chain(graph, node, taken).nodes
            if nodes:
                found.append(tuple(each.name for each in graph.nodes if each in nodes))
                taken.update(found[-1])
    return found


class _Chain:
    """Grows a region from its first polynomial."""

    def __init__(self, graph: ModelGraph, first: fx.Node, taken: set[str]) -> None:
        self._graph, self._taken = graph, taken
        self._depth: dict[fx.Node, int] = {}
        self._layers: dict[fx.Node, int] = {}
        self._region = LinearRegion(self._before, self._count)
        self._region.take(first)
        self._region.grow(graph, self._after)
        self.nodes = self._trimmed()
        if not any(str(node.target) in CONVOLUTIONS for node in self.nodes):
            self.nodes = set()

    def _before(self, node: fx.Node) -> bool:
        """Layers and what is linear, and the arithmetic that finds the row of a table."""
        if node.name in self._taken:
            return False
        layer = str(node.target) != POLYNOMIAL and _carried(node) and not self._region.is_late(self._graph, node)
        row = not info(node).secret and str(node.target) in LOOKUP and not any(info(user).secret for user in node.users)
        return layer or row or is_lookup(node)

    def _after(self, node: fx.Node) -> bool:
        """What a region can hold, if levels are left."""
        if node.name in self._taken or not _carried(node):
            return False
        return self._depth_of(node) + 1 <= MOST_DEPTH and self._layers_of(node) <= MOST_LAYERS

    def _count(self, node: fx.Node) -> None:
        self._depth[node], self._layers[node] = self._depth_of(node), self._layers_of(node)

    def _depth_of(self, node: fx.Node) -> int:
        """Levels used before a node's own layer: one for each layer before it, and those of polynomials."""
        below = max((self._depth.get(operand, 0) for operand in node.all_input_nodes), default=0)
        if str(node.target) == POLYNOMIAL:
            return below + 1 + depth_of(int(str(info(node.args[4]).shape[1])) - 1)
        return below + (str(node.target) in CONVOLUTIONS and self._layers_of(node) > 1)

    def _layers_of(self, node: fx.Node) -> int:
        """Layers in a row since the last polynomial."""
        if str(node.target) == POLYNOMIAL:
            return 0
        return max((self._layers.get(operand, 0) for operand in node.all_input_nodes), default=0) + (
            str(node.target) in CONVOLUTIONS
        )

    def _trimmed(self) -> set[fx.Node]:
        """The nodes without sums with what the client has, which are left to the client unless the region goes on with them."""
        nodes = set(self._region.nodes)
        for node in reversed(self._graph.nodes):
            outside = any(operand not in nodes for operand in secret_operands(node)) if str(node.target) in SUMS else False
            if node in nodes and outside and nodes.isdisjoint(node.users):
                nodes.discard(node)
        return nodes
