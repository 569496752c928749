"""Groups of linear layers: secret layers that read the same value in the same way, so that one upload serves them all.

The pass `split` makes one linear operation of a group, so a group has one price.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from hecompile.ir.channels import ChannelSplit
from hecompile.ir.graph import ModelGraph
from hecompile.ir.layers import LayerShape, group_layers, secret_layers, secret_shapes
from hecompile.ir.linear import Array, Geometry, row_groups
from hecompile.ir.quantization import quantize

if TYPE_CHECKING:
    from hecompile.ir.linear_ops import FloatLinearOp

__all__ = ["LayerGroup", "layer_group_of", "layer_groups", "layer_groups_of_shapes", "macs_of", "multiplied", "weights_of"]


@dataclass(frozen=True, eq=False)
class LayerGroup:
    """Layers that share one upload, as one linear operation with the rows of all. `weights` are int8; None for shapes alone."""

    names: tuple[str, ...]
    nodes: tuple[str, ...]  # of the layers, and those that are folded into them
    input: str
    geometry: Geometry
    images_per_sample: int  # pictures per entry of the batch
    split: ChannelSplit
    weights: Array | None = None
    rounding: float = 0.0  # variance of the weights' rounding errors, relative to the weights' own
    skipped: int = 0  # weights of taps and input channels that are all zero, which nobody stores or multiplies
    largest: bool = False  # for shapes alone: assume weights that are all as large as possible, instead of normally distributed


def macs_of(geometry: Geometry) -> int:
    """Return the multiply-adds of a layer without encryption, per picture."""
    return weights_of(geometry) * prod(geometry.grid)


def weights_of(geometry: Geometry) -> int:
    """Return the number of a layer's weights."""
    return geometry.rows * geometry.picture[0] * len(geometry.taps)


def multiplied(geometry: Geometry, split: ChannelSplit) -> int:
    """Return the number of weights that the server multiplies: all but those of absent channels."""
    return geometry.rows * (geometry.picture[0] - len(split.places(split.absent, geometry))) * len(geometry.taps)


def layer_groups(graph: ModelGraph, regions: Mapping[str, str] | None = None) -> list[LayerGroup]:
    """Return the groups of a graph's secret layers in execution order, with int8 weights if the graph has weights.

    `regions` gives the region of every layer by name; layers of different regions are then never in one group.
    """
    shapes = {shape.nodes[-1]: shape for shape in secret_shapes(graph)}
    places = {name: place for place, name in enumerate(shapes)}
    if graph.is_meta:
        groups = _shape_groups(shapes, regions)
    else:
        by_region: dict[str, list[FloatLinearOp]] = {}
        for layer in secret_layers(graph):
            by_region.setdefault(regions[layer.nodes[-1]] if regions else "", []).append(layer.linear_op)
        groups = [_layer_group(linear_op, shapes) for linear_ops in by_region.values() for linear_op in group_layers(linear_ops)]
    return sorted(groups, key=lambda group: places[group.names[0]])


def _shape_groups(shapes: Mapping[str, LayerShape], regions: Mapping[str, str] | None) -> list[LayerGroup]:
    """Groups without weights."""
    alike: dict[tuple[object, ...], list[str]] = {}
    for name, shape in shapes.items():
        alike.setdefault((regions[name] if regions else "", shape.input, replace(shape.geometry, outputs=1)), []).append(name)
    groups, names_of_groups = [], list[list[str]]()
    for layers in alike.values():
        names_of_groups += [layers[places] for places in row_groups([shapes[name].geometry.rows for name in layers])]
    for names in names_of_groups:
        first = shapes[names[0]]
        geometry = replace(first.geometry, outputs=sum(shapes[name].geometry.outputs for name in names))
        nodes = tuple(node for name in names for node in shapes[name].nodes)
        groups.append(
            LayerGroup(tuple(names), nodes, first.input, geometry, first.images_per_sample, ChannelSplit(geometry.channels))
        )
    return groups


def layer_groups_of_shapes(graph: ModelGraph) -> list[LayerGroup]:
    """Return the groups without weights, even if the graph has them. Unlike in `layer_groups`, layers that reveal differently, or
    reveal different parts of one value, are together."""
    return _shape_groups({shape.nodes[-1]: shape for shape in secret_shapes(graph)}, None)


def layer_group_of(linear_op: FloatLinearOp, shape: LayerShape) -> LayerGroup:
    """Return a linear operation as a group. `shape` is that of its first layer."""
    return _layer_group(linear_op, {part.output: shape for part in linear_op.parts})


def _layer_group(linear_op: FloatLinearOp, shapes: Mapping[str, LayerShape]) -> LayerGroup:
    """Return a linear operation as a group, its weights rounded as `quantize` does. `shapes` has those of its layers by name."""
    rounded, names = quantize(linear_op), tuple(part.output for part in linear_op.parts)
    weights = linear_op.weights
    power = float(np.square(weights).sum())
    error = rounded.weights * rounded.dequantizer.weight_scales[:, None, None] - weights
    rounding = float(np.square(error).sum()) / power if power else 0.0
    nodes, images_per_sample = tuple(node for name in names for node in shapes[name].nodes), shapes[names[0]].images_per_sample
    skipped = sum(weights_of(shapes[name].geometry) for name in names) - multiplied(linear_op.geometry, linear_op.split)
    return LayerGroup(
        names, nodes, linear_op.input, linear_op.geometry, images_per_sample, linear_op.split, rounded.weights, rounding, skipped
    )
