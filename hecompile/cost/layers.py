"""What the linear layers of a graph cost under the integer backends.

Layers that read one value in one way share a request's uploads, as `split` stacks them; they are priced as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

from hecompile.backends.base import Candidate, Cost
from hecompile.backends.bfv.parameters import Choice, Weights, choose
from hecompile.cost.machine import Machine
from hecompile.cost.model import Released, layer_cost
from hecompile.ir.graph import ModelGraph
from hecompile.ir.layers import LayerShape, secret_layers, secret_shapes
from hecompile.ir.linear import Array, Geometry

__all__ = ["Stack", "candidates", "cost_of", "macs_of", "parameters_for", "released_of", "stacks", "weights_of"]


@dataclass(frozen=True, eq=False)
class Stack:
    """Layers that share a request's uploads: one shape with all their rows. `weights` are int8, None where there are none."""

    names: tuple[str, ...]
    shape: LayerShape
    weights: Array | None
    rounding: float = 0.0  # variance of rounding the weights, relative to theirs


def macs_of(geometry: Geometry) -> int:
    """Multiply-adds of a layer in the clear, per element."""
    return weights_of(geometry) * prod(geometry.grid)


def weights_of(geometry: Geometry) -> int:
    """Entries of a layer's weight matrix."""
    return geometry.rows * geometry.picture[0] * len(geometry.taps)


def stacks(graph: ModelGraph, regions: Mapping[str, str] | None = None) -> list[Stack]:
    """The secret layers of a graph, those of one region that read one value in one way together; with weights where it has any."""
    import numpy as np

    groups: dict[tuple[object, ...], list[LayerShape]] = {}
    for shape in secret_shapes(graph):
        region = regions[shape.nodes[-1]] if regions else ""
        groups.setdefault((region, shape.input, replace(shape.geometry, outputs=1)), []).append(shape)
    quantized = _quantized(graph)
    found = []
    for group in groups.values():
        names = tuple(shape.nodes[-1] for shape in group)
        geometry = replace(group[0].geometry, outputs=sum(shape.geometry.outputs for shape in group))
        nodes = tuple(node for shape in group for node in shape.nodes)
        own = [quantized[name] for name in names if quantized]
        values = np.concatenate([weights for weights, _ in own]) if own else None
        rounding = max((variance for _, variance in own), default=0.0)
        found.append(Stack(names, replace(group[0], nodes=nodes, geometry=geometry), values, rounding))
    return found


def _quantized(graph: ModelGraph) -> dict[str, tuple[Array, float]]:
    """Weights as `quantize` rounds them, and the relative variance of that, by layer; empty for a model without weights."""
    from hecompile.passes.quantize import quantize

    if any(tensor.is_meta for tensor in (*graph.graph_module.parameters(), *graph.graph_module.buffers())):
        return {}
    found = {}
    for layer in secret_layers(graph):
        product, rounded = layer.product, quantize(layer.product)
        error = rounded.weights * rounded.readout.weight_scales[:, None, None] - product.weights
        power = float((product.weights**2).sum())
        found[layer.nodes[-1]] = rounded.weights, float((error**2).sum()) / power if power else 0.0
    return found


def parameters_for(shape: LayerShape, machine: Machine, batch: int = 1, weights: Array | None = None) -> Choice | None:
    """Parameters and packing for these weights, or without them for the largest there can be; None if nothing carries those."""
    found = choose(Weights(shape.geometry, weights), shape.multiple, machine)
    if batch == 1 or found is None:
        return found
    return choose(Weights(shape.geometry, weights), batch * shape.multiple, machine, found.parameters)  # the ring is batch one's


def released_of(shape: LayerShape, bits: int, error_var: float = 0.0, batch: int = 1) -> Released | None:
    """What is shown in clear of a layer's input: `None` for a layer that is all encrypted."""
    if not shape.released:
        return None
    geometry, elements = shape.geometry, batch * shape.multiple
    macs = geometry.rows * shape.released * prod(geometry.down) * len(geometry.taps) * prod(geometry.grid) * elements
    return Released(shape.released * prod(geometry.size) * elements, bits, macs, error_var)


def cost_of(choice: Choice, machine: Machine, released: Released | None = None) -> Cost:
    """The cost of a layer with its choice for the encrypted part."""
    return layer_cost(choice.layout, choice.parameters.q_bits, (choice.drop_b, choice.drop_a), machine, released)


def candidates(graph: ModelGraph, machine: Machine, backend: str) -> list[Candidate]:
    """One candidate per linear layer of secret data, at the cost of its worst weights: the real ones cost no more."""
    found = []
    for shape in secret_shapes(graph):
        choice = parameters_for(shape, machine)
        found.append(Candidate(shape.nodes, Cost(rounds=1) if choice is None else cost_of(choice, machine), backend))
    return found
