"""Finds stacks: linear layers one after the other, or side by side in a sum, with only linear operations between them.

Values inside a stack are read by the stack alone. So a stack has one result, and no path leaves it and returns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hecompile.backends.concrete.costs import circuit_cost, dimension_for
from hecompile.ir.candidates import Candidate, Cost, disjoint
from hecompile.ir.graph import Batch, ModelGraph, info, secret_operands
from hecompile.ir.layers import LayerShape, secret_layers, secret_shapes
from hecompile.ir.linear_regions import LinearRegion, linear_in_secrets
from hecompile.ir.ops import REVEAL, SUMS
from hecompile.machine import Machine, seconds_of

if TYPE_CHECKING:
    from torch import fx


__all__ = ["stack_candidates", "worthwhile"]

LOG = logging.getLogger(__name__)
RESHAPE = "aten.reshape.default"
BETWEEN = (*SUMS, "aten.mul.Tensor", "aten.neg.default", RESHAPE)

Price = Callable[[ModelGraph, Candidate, Machine], Candidate | None]  # a candidate with what it costs; None if it cannot run


class _Finder:
    """Grows stacks backwards from each possible last node."""

    def __init__(self, graph: ModelGraph) -> None:
        self._graph = graph
        self._nodes = {node.name: node for node in graph.nodes}
        layers = [layer for layer in secret_shapes(graph) if self._fits(layer)]
        self._layers = {layer.nodes[-1] for layer in layers}
        self._folded = {name for layer in layers for name in layer.nodes[:-1]}

    def _fits(self, layer: LayerShape) -> bool:
        """True for a layer of pictures, or of tokens in one row, that reads only encrypted values: circuits reveal nothing."""
        reveals = any(str(operand.target) == REVEAL for operand in self._nodes[layer.nodes[0]].all_input_nodes)
        grid = layer.geometry.tokens and len(info(self._nodes[layer.nodes[-1]]).shape) > 3
        return layer.images_per_sample == 1 and not reveals and not grid

    def stacks(self) -> list[tuple[str, ...]]:
        """The nodes of every stack of two or more layers, in execution order. Of stacks that overlap the larger comes first."""
        stacks = dict[frozenset[str], None]()
        for node in reversed(self._graph.nodes):
            inside = self._behind(node)
            if len(inside & self._layers) >= 2:
                stacks[self._forward(inside)] = None
        return [tuple(name for name in self._nodes if name in stack) for stack in stacks]

    def _behind(self, node: fx.Node) -> frozenset[str]:
        """The nodes of the stack that ends at a node; empty if no layer is in it."""
        if node.name not in self._layers and not self._between(node):
            return frozenset()
        region = LinearRegion(self._joins)
        region.take(node)
        made = region.made_by(lambda member: member.name in self._layers)
        return frozenset(member.name for member in region.nodes if member in made or member.name in self._folded)

    def _joins(self, node: fx.Node) -> bool:
        """True if a node can lie inside a stack, below its result: one other node reads it, and it is linear."""
        if len(node.users) != 1 or node.name in self._graph.outputs:
            return False
        return node.name in self._layers or node.name in self._folded or self._between(node)

    def _between(self, node: fx.Node) -> bool:
        """True for a linear operation that may stand between layers: a sum, product with a constant, negation or reshape."""
        return str(node.target) in BETWEEN and linear_in_secrets(node) and self._carried(node)

    def _carried(self, node: fx.Node) -> bool:
        """True if secrets are float32 with the batch in front, and all other operands are constants that broadcast to them."""
        record, secrets = info(node), secret_operands(node)
        others = [operand for operand in node.all_input_nodes if operand not in secrets]
        constant = all(operand.op == "get_attr" and info(operand).dtype == "float32" for operand in others)
        twice = len([arg for arg in node.args if arg in secrets]) > len(secrets)
        values = [record, *(info(operand) for operand in secrets)]
        shaped = all(value.shape[:1] == (Batch(),) and len(value.shape) > 1 and value.dtype == "float32" for value in values)
        if len(secrets) == 1 and str(node.target) != RESHAPE:
            shaped = shaped and record.shape == values[1].shape
        return bool(record.secret) and constant and bool(secrets) and not twice and shaped

    def _forward(self, inside: frozenset[str]) -> frozenset[str]:
        """Extend a stack by sums of its result with values that it reads anyway."""
        while True:
            last = max(inside, key=[*self._nodes].index)
            readers = list(self._nodes[last].users)
            read = {operand.name for name in inside for operand in secret_operands(self._nodes[name])} | inside
            if len(readers) != 1 or last in self._graph.outputs or readers[0].op != "call_function":
                return inside
            sums = str(readers[0].target) in SUMS and self._between(readers[0])
            if not sums or not all(operand.name in read for operand in secret_operands(readers[0])):
                return inside
            inside |= {readers[0].name}


def stack_candidates(graph: ModelGraph, backend: str) -> list[Candidate]:
    """Return a candidate for every stack; of stacks that overlap the largest comes first. A graph without weights has none.

    A stack of several inputs needs their ranges, which a run of the model's own sampler gives. Without a sampler such stacks are
    left out.
    """
    if graph.is_meta:
        return []
    stacks = _Finder(graph).stacks()
    single = [nodes for nodes in stacks if len(_inputs(graph, nodes)) == 1]
    usable = stacks if len(single) == len(stacks) or _sampled(graph) else single
    return [Candidate(nodes, Cost(rounds=1), backend, whole=True, own_request=True) for nodes in usable]


def _inputs(graph: ModelGraph, nodes: Sequence[str]) -> set[str]:
    """Names of the secret values that these nodes read from outside."""
    inside = set(nodes)
    return {operand.name for node in graph.nodes if node.name in inside for operand in secret_operands(node)} - inside


def _sampled(graph: ModelGraph) -> bool:
    """True if the model's own sampler runs, which is tried with one step."""
    from hecompile.calibration import from_sampler

    try:
        from_sampler(graph, steps=1, samples=2)
    except Exception as error:  # a model that does not predict noise may raise anything
        LOG.debug("the sampler does not run, so stacks of several inputs are left out: %s", error)
        return False
    return True


def worthwhile(graph: ModelGraph, candidates: Sequence[Candidate], price: Price, machine: Machine) -> list[Candidate]:
    """The stacks that are faster than a circuit per layer, with their costs.

    Of stacks that overlap those that save most are kept.
    """
    from hecompile.ir.quantization import quantize

    if not candidates:
        return []
    layers = {layer.nodes[-1]: layer.linear_op for layer in secret_layers(graph)}
    savings = list[tuple[float, Candidate]]()
    for candidate in candidates:
        priced = price(graph, candidate, machine)
        if priced is None:
            continue
        inside = set(candidate.nodes)
        linear_ops = [quantize(layers[name]) for name in candidate.nodes if name in layers]
        apart = sum((circuit_cost(one.geometry, dimension_for(one.geometry, one.weights), machine) for one in linear_ops), Cost())
        apart = replace(apart, rounds=_depth(graph, inside, set(layers)))
        saved = seconds_of(apart, machine) - seconds_of(priced.cost, machine)
        LOG.debug("%s: one circuit saves %.3f s of %.3f", " + ".join(candidate.nodes), saved, seconds_of(apart, machine))
        if saved > 0:
            savings.append((saved, priced))
    return disjoint([candidate for _, candidate in sorted(savings, key=lambda pair: -pair[0])])


def _depth(graph: ModelGraph, inside: set[str], layers: set[str]) -> int:
    """The largest number of layers in a row."""
    depth = dict[str, int]()
    for node in graph.nodes:
        if node.name in inside:
            depth[node.name] = max((depth.get(operand.name, 0) for operand in node.all_input_nodes), default=0) + (
                node.name in layers
            )
    return max(depth.values())
