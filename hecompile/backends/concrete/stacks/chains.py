"""Finding linear stacks: layers one after the other, or side by side in a sum, with nothing between that is not linear.

What lies inside is read by the stack alone, so that one value comes back and no path leaves the stack and returns.
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
from hecompile.ir.ops import RELEASE, SUMS
from hecompile.machine import Machine, seconds_of

if TYPE_CHECKING:
    from torch import fx


__all__ = ["stack_candidates", "worthwhile"]

LOG = logging.getLogger(__name__)
RESHAPE = "aten.reshape.default"
BETWEEN = (*SUMS, "aten.mul.Tensor", "aten.neg.default", RESHAPE)

Price = Callable[[ModelGraph, Candidate, Machine], Candidate | None]  # a candidate with what it costs; None if it cannot run


class _Finder:
    """Grows stacks backwards from their last node."""

    def __init__(self, graph: ModelGraph) -> None:
        self._graph = graph
        self._nodes = {node.name: node for node in graph.nodes}
        layers = [each for each in secret_shapes(graph) if self._fits(each)]
        self._layers = {each.nodes[-1] for each in layers}
        self._folded = {name for each in layers for name in each.nodes[:-1]}

    def _fits(self, layer: LayerShape) -> bool:
        """Pictures, or tokens in one row; nothing that is shown in part: nothing is, under Concrete."""
        shown = any(str(each.target) == RELEASE for each in self._nodes[layer.nodes[0]].all_input_nodes)
        grid = layer.geometry.tokens and len(info(self._nodes[layer.nodes[-1]]).shape) > 3
        return layer.multiple == 1 and not shown and not grid

    def stacks(self) -> list[tuple[str, ...]]:
        """Every stack of at least two layers in execution order; of those that overlap, the ones that end later hold the others."""
        found = dict[frozenset[str], None]()
        for node in reversed(self._graph.nodes):
            inside = self._behind(node)
            if len(inside & self._layers) >= 2:
                found[self._forward(inside)] = None
        return [tuple(name for name in self._nodes if name in each) for each in found]

    def _behind(self, node: fx.Node) -> frozenset[str]:
        """The stack that ends at a node; empty if there is no layer in it."""
        if node.name not in self._layers and not self._between(node):
            return frozenset()
        region = LinearRegion(self._joins)
        region.take(node)
        made = region.made_by(lambda each: each.name in self._layers)
        return frozenset(each.name for each in region.nodes if each in made or each.name in self._folded)

    def _joins(self, node: fx.Node) -> bool:
        """Whether a node that one other reads can lie inside a stack."""
        if len(node.users) != 1 or node.name in self._graph.outputs:
            return False
        return node.name in self._layers or node.name in self._folded or self._between(node)

    def _between(self, node: fx.Node) -> bool:
        return str(node.target) in BETWEEN and linear_in_secrets(node) and self._carried(node)

    def _carried(self, node: fx.Node) -> bool:
        """In float32 with the batch in front; other operands are constants that make no value larger."""
        record, secrets = info(node), secret_operands(node)
        others = [each for each in node.all_input_nodes if each not in secrets]
        constant = all(each.op == "get_attr" and info(each).dtype == "float32" for each in others)
        twice = len([each for each in node.args if each in secrets]) > len(secrets)
        records = [record, *(info(each) for each in secrets)]
        shaped = all(each.shape[:1] == (Batch(),) and len(each.shape) > 1 and each.dtype == "float32" for each in records)
        if len(secrets) == 1 and str(node.target) != RESHAPE:
            shaped = shaped and record.shape == records[1].shape
        return bool(record.secret) and constant and bool(secrets) and not twice and shaped

    def _forward(self, inside: frozenset[str]) -> frozenset[str]:
        """With sums of its result and what it reads anyway: the value is there already."""
        while True:
            last = max(inside, key=[*self._nodes].index)
            readers = list(self._nodes[last].users)
            read = {each.name for name in inside for each in secret_operands(self._nodes[name])} | inside
            if len(readers) != 1 or last in self._graph.outputs or readers[0].op != "call_function":
                return inside
            sums = str(readers[0].target) in SUMS and self._between(readers[0])
            if not sums or not all(each.name in read for each in secret_operands(readers[0])):
                return inside
            inside |= {readers[0].name}


def stack_candidates(graph: ModelGraph, backend: str) -> list[Candidate]:
    """Every stack, the largest of those that overlap first; none for a graph without weights.

    Those of several inputs need the inputs' ranges, which the model's own sampler gives: none without one.
    """
    if graph.is_meta:
        return []
    found = _Finder(graph).stacks()
    single = [nodes for nodes in found if len(_inputs(graph, nodes)) == 1]
    chosen = found if len(single) == len(found) or _sampled(graph) else single
    return [Candidate(nodes, Cost(rounds=1), backend, whole=True, own_request=True) for nodes in chosen]


def _inputs(graph: ModelGraph, nodes: Sequence[str]) -> set[str]:
    inside = set(nodes)
    return {each.name for node in graph.nodes if node.name in inside for each in secret_operands(node)} - inside


def _sampled(graph: ModelGraph) -> bool:
    """Whether the model's own sampler runs, tried with a step."""
    from hecompile.calibration import from_sampler

    try:
        from_sampler(graph, steps=1, samples=2)
    except Exception as error:  # whatever a model raises that is no noise prediction
        LOG.debug("no sampler, no stacks of several inputs: %s", error)
        return False
    return True


def worthwhile(graph: ModelGraph, candidates: Sequence[Candidate], price: Price, machine: Machine) -> list[Candidate]:
    """Those that are faster than a circuit per layer, with their costs; of those that overlap, the ones that save most."""
    from hecompile.ir.quantization import quantize

    if not candidates:
        return []
    layers = {layer.nodes[-1]: layer.product for layer in secret_layers(graph)}
    found = list[tuple[float, Candidate]]()
    for each in candidates:
        priced = price(graph, each, machine)
        if priced is None:
            continue
        inside = set(each.nodes)
        products = [quantize(layers[name]) for name in each.nodes if name in layers]
        apart = sum((circuit_cost(one.geometry, dimension_for(one.geometry, one.weights), machine) for one in products), Cost())
        apart = replace(apart, rounds=_depth(graph, inside, set(layers)))
        saved = seconds_of(apart, machine) - seconds_of(priced.cost, machine)
        LOG.debug("%s: one circuit saves %.3f s of %.3f", " + ".join(each.nodes), saved, seconds_of(apart, machine))
        if saved > 0:
            found.append((saved, priced))
    return disjoint([each for _, each in sorted(found, key=lambda pair: -pair[0])])


def _depth(graph: ModelGraph, inside: set[str], layers: set[str]) -> int:
    """Layers in a row."""
    depth = dict[str, int]()
    for node in graph.nodes:
        if node.name in inside:
            depth[node.name] = max((depth.get(each.name, 0) for each in node.all_input_nodes), default=0) + (node.name in layers)
    return max(depth.values())
