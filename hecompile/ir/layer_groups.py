"""The secret linear layers of a graph in groups: layers that read one value in one way share a request's uploads.

`split` stacks them into one product, so they are priced as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from hecompile.ir.channels import ChannelSplit
from hecompile.ir.graph import ModelGraph
from hecompile.ir.layers import LayerShape, secret_layers, secret_shapes, stack
from hecompile.ir.linear import Array, Geometry, stackable
from hecompile.ir.quantization import quantize

if TYPE_CHECKING:
    from hecompile.ir.products import Product

__all__ = ["Stack", "macs_of", "multiplied", "stack_of", "stacks", "stacks_of_shapes", "weights_of"]


@dataclass(frozen=True, eq=False)
class Stack:
    """Layers that share a request's uploads: one product with all their rows. `weights` are int8, None where there are none."""

    names: tuple[str, ...]
    nodes: tuple[str, ...]  # those folded in among them
    input: str
    geometry: Geometry
    multiple: int  # pictures per entry of the batch
    split: ChannelSplit
    weights: Array | None = None
    rounding: float = 0.0  # variance of rounding the weights, relative to theirs
    skipped: int = 0  # weights of taps and input channels that are all zero: not sent, not multiplied
    largest: bool = False  # without weights: whether they are taken to be as large as can be, not of a bell's shape


def macs_of(geometry: Geometry) -> int:
    """Multiply-adds of a layer in the clear, per element."""
    return weights_of(geometry) * prod(geometry.grid)


def weights_of(geometry: Geometry) -> int:
    """Entries of a layer's weight matrix."""
    return geometry.rows * geometry.picture[0] * len(geometry.taps)


def multiplied(geometry: Geometry, split: ChannelSplit) -> int:
    """Those that the server holds and multiplies: not of absent channels."""
    return geometry.rows * (geometry.picture[0] - len(split.places(split.absent, geometry))) * len(geometry.taps)


def stacks(graph: ModelGraph, regions: Mapping[str, str] | None = None) -> list[Stack]:
    """The secret layers of a graph, those of one region that read one value in one way together; with weights where it has any."""
    shapes = {shape.nodes[-1]: shape for shape in secret_shapes(graph)}
    places = {name: place for place, name in enumerate(shapes)}
    if graph.is_meta:
        found = _shape_stacks(shapes, regions)
    else:
        by_region: dict[str, list[Product]] = {}
        for layer in secret_layers(graph):
            by_region.setdefault(regions[layer.nodes[-1]] if regions else "", []).append(layer.product)
        found = [_stack(product, shapes) for products in by_region.values() for product in stack(products)]
    return sorted(found, key=lambda each: places[each.names[0]])


def _shape_stacks(shapes: Mapping[str, LayerShape], regions: Mapping[str, str] | None) -> list[Stack]:
    """Stacks without weights."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, shape in shapes.items():
        groups.setdefault((regions[name] if regions else "", shape.input, replace(shape.geometry, outputs=1)), []).append(name)
    found, stacked = [], list[list[str]]()
    for group in groups.values():
        stacked += [group[places] for places in stackable([shapes[name].geometry.rows for name in group])]
    for names in stacked:
        first = shapes[names[0]]
        geometry = replace(first.geometry, outputs=sum(shapes[name].geometry.outputs for name in names))
        nodes = tuple(node for name in names for node in shapes[name].nodes)
        found.append(Stack(tuple(names), nodes, first.input, geometry, first.multiple, ChannelSplit(geometry.channels)))
    return found


def stacks_of_shapes(graph: ModelGraph) -> list[Stack]:
    """The same without weights, also where the graph has them. Layers that read parts of one value may be apart in `stacks`."""
    return _shape_stacks({shape.nodes[-1]: shape for shape in secret_shapes(graph)}, None)


def stack_of(product: Product, shape: LayerShape) -> Stack:
    """A product as a stack, whose first layer has this shape."""
    return _stack(product, {part.output: shape for part in product.parts})


def _stack(product: Product, shapes: Mapping[str, LayerShape]) -> Stack:
    """A stacked product, its weights rounded as `quantize` does."""
    rounded, names = quantize(product), tuple(part.output for part in product.parts)
    weights = product.weights
    power = float(np.square(weights).sum())
    error = rounded.weights * rounded.readout.weight_scales[:, None, None] - weights
    rounding = float(np.square(error).sum()) / power if power else 0.0
    nodes, multiple = tuple(node for name in names for node in shapes[name].nodes), shapes[names[0]].multiple
    skipped = sum(weights_of(shapes[name].geometry) for name in names) - multiplied(product.geometry, product.split)
    return Stack(names, nodes, product.input, product.geometry, multiple, product.split, rounded.weights, rounding, skipped)
