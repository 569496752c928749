"""Divides linear layers by their input channels: every part becomes a layer of its own, and the parts' results are added.

    %y = conv2d(%x, %w, %b)  ->  %x1 = slice(%x, 1, 0, 4, 1);  %y1 = conv2d(%x1, %w1, %b)
                                 %x2 = slice(%x, 1, 4, 8, 1);  %y2 = conv2d(%x2, %w2);  %y = add(%y1, %y2)

Layers that read the same value in the same way are divided in the same way, so that they still share one upload.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hecompile.ir.channels import ChannelSplit
from hecompile.ir.graph import ModelGraph, copy_module, info, set_info
from hecompile.ir.layers import constant_of
from hecompile.ir.linear_ops import FloatLinearOp
from hecompile.ir.ops import CONVOLUTIONS, UPSAMPLE

if TYPE_CHECKING:
    import torch
    from torch import fx

__all__ = ["Division", "divide", "divisions_of", "part_of"]

Channels = tuple[int, ...]


@dataclass(frozen=True)
class Division:
    """How to divide layers that read one value: the layers' names, the value's name, and the channels that each part reads."""

    layers: tuple[str, ...]
    value: str
    parts: tuple[Channels, ...]


def divisions_of(graph: ModelGraph, linear_op: FloatLinearOp) -> Iterator[Division]:
    """All ways to divide the layers of a linear operation, fewest parts first: 2, 4, 8 and so on, and at last single channels.

    In grouped convolutions every part has equally many channels of each group.
    """
    names, channels = tuple(part.output for part in linear_op.parts), linear_op.geometry.channels
    groups = math.lcm(*(_groups(node) for node in graph.nodes if node.name in names))
    inner = channels // groups
    counts = [2**power for power in range(1, inner.bit_length()) if 2**power < inner]
    for count in [*counts, *([inner] if inner > 1 else [])]:
        bounds = [inner * number // count for number in range(count + 1)]
        parts = (
            tuple(group * inner + place for group in range(groups) for place in range(low, high)) for low, high in pairwise(bounds)
        )
        yield Division(names, linear_op.input, tuple(parts))


def part_of(linear_op: FloatLinearOp, channels: Channels) -> FloatLinearOp:
    """Return the linear operation on these channels of its input alone, all of them encrypted."""
    places = linear_op.split.places(channels, linear_op.geometry)
    geometry = replace(linear_op.geometry, channels=len(channels))

    def weights() -> npt.NDArray[np.float64]:
        return np.ascontiguousarray(linear_op.weights[:, places])

    return replace(linear_op, geometry=geometry, make_weights=weights, split=ChannelSplit(len(channels)))


def divide(graph: ModelGraph, divisions: Sequence[Division]) -> ModelGraph:
    """Return a copy of the graph with these layers divided. The sums get the layers' names. Divided layers reveal nothing."""
    work = _Work(graph)
    for division in divisions:
        work.divide(division)
    return work.finish()


def _groups(node: fx.Node) -> int:
    """Return the number of groups of a convolution; 1 for a linear layer."""
    if str(node.target) not in CONVOLUTIONS:
        return 1
    return int(str(node.args[6]))


def _transposed(node: fx.Node) -> bool:
    return str(node.target) == CONVOLUTIONS[1]


class _Work:
    """A copy of a graph in which layers are being divided."""

    def __init__(self, graph: ModelGraph) -> None:
        self._original, self._module = graph, copy_module(graph.graph_module)
        self._graph: fx.Graph = self._module.graph
        self._nodes: dict[str, fx.Node] = {node.name: node for node in self._graph.nodes}

    def finish(self) -> ModelGraph:
        """Return the graph without nodes and weights that nothing reads any more."""
        self._graph.eliminate_dead_code()
        return replace(self._original, graph_module=copy_module(self._module))

    def divide(self, division: Division) -> None:
        value, places = self._nodes[division.value], {node: place for place, node in enumerate(self._graph.nodes)}
        layers = [self._nodes[name] for name in division.layers]
        folded = [node for layer in layers for node in layer.all_input_nodes[:1] if _resizes(node, value)]
        axis = 1 if str(layers[0].target) in CONVOLUTIONS else len(info(value).shape) - 1
        with self._graph.inserting_before(min((*layers, *folded), key=lambda node: places[node])):
            slices = [self._slice(value, axis, channels, number) for number, channels in enumerate(division.parts, start=1)]
        for layer in layers:
            self._divide_layer(layer, value, slices, division.parts)

    def _divide_layer(self, layer: fx.Node, value: fx.Node, slices: list[fx.Node], parts: tuple[Channels, ...]) -> None:
        import torch

        record, name, total = replace(info(layer), coo=None), layer.name, None
        source: Any = layer.args[0]
        with self._graph.inserting_before(layer):
            for number, (piece, channels) in enumerate(zip(slices, parts, strict=True), start=1):
                read = self._again(source, piece, number) if _resizes(source, value) else piece
                weights = self._weights(layer, channels, number)
                bias = layer.args[2] if number == 1 else None
                arguments = (read, weights, bias, *layer.args[3:])
                part = self._node(layer.target, arguments, f"{name}_part_{number}", record, layer.kwargs)
                total = part if total is None else self._node(torch.ops.aten.add.Tensor, (total, part), f"{name}_sum", record)
        assert total is not None  # a division has two parts at least
        layer.replace_all_uses_with(total)
        self._graph.erase_node(layer)
        total.name = name
        self._nodes[name] = total

    def _node(self, target: Any, arguments: tuple[Any, ...], name: str, record: Any, keywords: Any = None) -> fx.Node:
        node: fx.Node = self._graph.create_node("call_function", target, arguments, keywords or {}, name=name)
        set_info(node, record)
        return node

    def _again(self, node: fx.Node, value: fx.Node, number: int) -> fx.Node:
        """Return a copy of the upsampling in front of a layer, applied to one part's channels."""
        shape = (info(node).shape[0], info(value).shape[1], *info(node).shape[2:])
        record = replace(info(node), shape=shape, coo=None)
        return self._node(node.target, (value, *node.args[1:]), f"{node.name}_part_{number}", record, node.kwargs)

    def _slice(self, value: fx.Node, axis: int, channels: Channels, number: int) -> fx.Node:
        import torch

        shape = tuple(len(channels) if place == axis else dim for place, dim in enumerate(info(value).shape))
        record, name = replace(info(value), shape=shape, coo=None), f"{value.name}_part_{number}"
        if channels == tuple(range(channels[0], channels[-1] + 1)):
            arguments = (value, axis, channels[0], channels[-1] + 1, 1)
            return self._node(torch.ops.aten.slice.Tensor, arguments, name, record)
        places = self._constant(torch.tensor(channels), f"{name}_places", value)
        return self._node(torch.ops.aten.index_select.default, (value, axis, places), name, record)

    def _weights(self, layer: fx.Node, channels: Channels, number: int) -> fx.Node:
        import torch

        tensor, axis = constant_of(self._original, layer.args[1]), 0 if _transposed(layer) else 1
        kept = channels if _transposed(layer) else tuple(channel for channel in channels if channel < tensor.shape[1])
        part = tensor.index_select(axis, torch.tensor(kept)).contiguous()
        return self._constant(part, f"{layer.name}_part_{number}_weight", layer.args[1])

    def _constant(self, tensor: torch.Tensor, name: str, like: Any) -> fx.Node:
        """Add a constant to the graph, with the module path and source line of the node `like`."""
        self._module.register_buffer(name, tensor)
        node: fx.Node = self._graph.create_node("get_attr", name, name=name)
        dtype = str(tensor.dtype).removeprefix("torch.")
        set_info(node, replace(info(like), shape=tuple(tensor.shape), dtype=dtype, secret=False, coo=None))
        return node


def _resizes(node: fx.Node, value: fx.Node) -> bool:
    """Return whether a layer's argument is an upsampling of `value`, which the layer folds in."""
    return node is not value and str(node.target) == UPSAMPLE
