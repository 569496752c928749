"""Finds the nodes of `ckks` regions: polynomials with the linear layers before and after them, as far as the levels reach.

Between two requests the client has all values in the clear, and what it computes there is exact and takes no level. So a region
begins at layers whose inputs the client has, goes through polynomials, and ends where the client must compute an exact activation
or norm, or where a layer needs a value that comes later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hecompile.backends.ckks.polynomial import depth_of
from hecompile.ir.graph import ModelGraph, info, secret_operands
from hecompile.ir.linear_regions import LinearRegion, linear_in_secrets
from hecompile.ir.ops import CONVOLUTIONS, POLYNOMIAL, SUMS

if TYPE_CHECKING:
    from torch import fx

__all__ = ["MOST_DEPTH", "is_timestep_row", "peeled", "region_nodes"]

MOST_DEPTH = 12  # levels of a region at dimension 16384
MOST_LAYERS = 2  # in a row: the levels of a third layer cost more than another round
LINEAR = (*CONVOLUTIONS, *SUMS, "aten.mul.Tensor", "aten.neg.default")
ROW_ARITHMETIC = ("aten.reshape.default", "aten.embedding.default", "aten.to.dtype", "aten.clamp.default", "aten.floor.default",
          "aten.div.Tensor", "aten.mul.Tensor")  # fmt: skip


def _carried(node: fx.Node) -> bool:
    """True if a region can compute the node: a secret picture (N, C, H, W) that is a polynomial or linear in all secrets."""
    if not info(node).secret or len(info(node).shape) != 4:
        return False
    return str(node.target) == POLYNOMIAL or (str(node.target) in LINEAR and linear_in_secrets(node))


def is_timestep_row(node: fx.Node) -> bool:
    """True if a node reads a row of a public table, so that its value is the same at all timesteps of one bin."""
    if node.op != "call_function" or info(node).secret:
        return False
    name = str(node.target)
    if name == "aten.embedding.default":
        return True
    return name == "aten.reshape.default" and isinstance(node.args[0], type(node)) and is_timestep_row(node.args[0])


def peeled(node: fx.Node) -> fx.Node:
    """The operand that is left when scales and shifts by constants, or by rows of timestep tables, are taken off."""
    while str(node.target) in ("aten.add.Tensor", "aten.mul.Tensor"):
        secrets = secret_operands(node)
        others = [operand for operand in node.all_input_nodes if operand not in secrets]
        if len(secrets) != 1 or not all(operand.op == "get_attr" or is_timestep_row(operand) for operand in others):
            break
        node = secrets[0]
    return node


def region_nodes(graph: ModelGraph) -> list[tuple[str, ...]]:
    """Names of the nodes of every region around a polynomial of pictures, in execution order. Regions share no node."""
    taken, regions = set[str](), list[tuple[str, ...]]()
    for node in graph.nodes:
        if str(node.target) == POLYNOMIAL and _carried(node) and node.name not in taken:
            nodes = _GrowingRegion(graph, node, taken).nodes
            if nodes:
                regions.append(tuple(member.name for member in graph.nodes if member in nodes))
                taken.update(regions[-1])
    return regions


class _GrowingRegion:
    """Grows a region from its first polynomial: backwards to what the client has, then forwards while levels are left.

    `nodes` is empty if the region holds no convolution.
    """

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
        """True if a node before the region can join it: linear operations, and the arithmetic that finds the row of a table."""
        if node.name in self._taken:
            return False
        layer = str(node.target) != POLYNOMIAL and _carried(node) and not self._region.is_late(self._graph, node)
        row = not info(node).secret and str(node.target) in ROW_ARITHMETIC and not any(info(user).secret for user in node.users)
        return layer or row or is_timestep_row(node)

    def _after(self, node: fx.Node) -> bool:
        """True if a node after the region can join it: a region can compute it, and enough levels are left."""
        if node.name in self._taken or not _carried(node):
            return False
        return self._depth_of(node) + 1 <= MOST_DEPTH and self._layers_of(node) <= MOST_LAYERS

    def _count(self, node: fx.Node) -> None:
        """Note the levels and the layers in a row that lead to a node which joins the region."""
        self._depth[node], self._layers[node] = self._depth_of(node), self._layers_of(node)

    def _depth_of(self, node: fx.Node) -> int:
        """Levels used before a node's own layer: one for each layer before it, and as many as each polynomial takes."""
        below = max((self._depth.get(operand, 0) for operand in node.all_input_nodes), default=0)
        if str(node.target) == POLYNOMIAL:
            return below + 1 + depth_of(int(str(info(node.args[4]).shape[1])) - 1)
        return below + (str(node.target) in CONVOLUTIONS and self._layers_of(node) > 1)

    def _layers_of(self, node: fx.Node) -> int:
        """How many layers lie in a row between the last polynomial and this node, which counts if it is a layer."""
        if str(node.target) == POLYNOMIAL:
            return 0
        return max((self._layers.get(operand, 0) for operand in node.all_input_nodes), default=0) + (
            str(node.target) in CONVOLUTIONS
        )

    def _trimmed(self) -> set[fx.Node]:
        """The region's nodes without trailing sums that read a value of the client: the client computes those itself."""
        nodes = set(self._region.nodes)
        for node in reversed(self._graph.nodes):
            outside = any(operand not in nodes for operand in secret_operands(node)) if str(node.target) in SUMS else False
            if node in nodes and outside and nodes.isdisjoint(node.users):
                nodes.discard(node)
        return nodes
