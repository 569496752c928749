"""Finds the linear layers of a canonical graph that read secret values, and makes a `FloatLinearOp` of each."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hecompile.errors import CompileError, Diagnostic
from hecompile.ir import linear as forms
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.graph import Batch, ModelGraph, info
from hecompile.ir.linear import Array, Geometry, Pair, Part, row_groups
from hecompile.ir.linear_ops import FloatLinearOp
from hecompile.ir.ops import LINEAR, REVEAL, UPSAMPLE
from hecompile.ir.tiles import Tiles
from hecompile.progress import tell

if TYPE_CHECKING:
    import torch
    from torch import fx

__all__ = ["Layer", "LayerShape", "constant_of", "group_layers", "secret_layers", "secret_shapes", "tensor_of"]


@dataclass(frozen=True, eq=False)
class Layer:
    """One linear layer as a linear operation. `nodes` are an upsampling that is folded in, if any, and the layer's own node."""

    nodes: tuple[str, ...]
    linear_op: FloatLinearOp


def constant_of(graph: ModelGraph, node: object) -> torch.Tensor:
    """Return the tensor of a `get_attr` node."""
    target: Any = graph.graph_module
    for name in str(getattr(node, "target", "")).split("."):
        target = getattr(target, name)
    tensor: torch.Tensor = target.detach()
    return tensor


def tensor_of(graph: ModelGraph, node: object) -> Array | None:
    """Return the tensor of a `get_attr` node as an array; None if `node` is None."""
    if node is None:
        return None
    array: Array = constant_of(graph, node).numpy()
    return array


@dataclass(frozen=True)
class LayerShape:
    """A linear layer without its weights, which is enough to estimate costs."""

    nodes: tuple[str, ...]
    input: str
    geometry: Geometry
    images_per_sample: int  # pictures per entry of the batch


def secret_layers(graph: ModelGraph, names: Collection[str] | None = None) -> list[Layer]:
    """Return every convolution and linear layer that reads a secret value, in execution order; with `names`, only the layers so
    named.

    Raises:
        CompileError: for layers whose input does not have the batch as its first dimension.
    """
    nodes, layers = [node for node in _secret_linear_nodes(graph) if names is None or node.name in names], list[Layer]()
    for node in nodes:
        layers.append(_layer(graph, node))
        tell("reading layers", len(layers), len(nodes))
    return layers


def secret_shapes(graph: ModelGraph) -> list[LayerShape]:
    """Return the layers of `secret_layers` without weights, also of graphs without data. Raises `CompileError` as that does."""
    shapes = []
    for node in _secret_linear_nodes(graph):
        nodes, source, factor = _folded(node)
        source = source.all_input_nodes[0] if str(source.target) == REVEAL else source
        size = [int(str(dim)) for dim in info(node.args[1]).shape]
        transposed = str(node.target).startswith("aten.conv_transpose2d")
        linear = len(size) == 2
        geometry, _ = _form(node, np.ones((1, 1, *size[2:]), np.float32), info(source).shape, factor, groups=1)
        channels = size[0] if transposed else info(source).shape[-1 if linear else 1]
        outputs = info(node).shape[-1 if linear else 1]
        geometry = replace(geometry, channels=int(str(channels)), outputs=int(str(outputs)))
        first = info(source).shape[0]
        images_per_sample = first.multiple if isinstance(first, Batch) else 1
        shapes.append(LayerShape(nodes, source.name, geometry, images_per_sample))
    return shapes


def _secret_linear_nodes(graph: ModelGraph) -> list[fx.Node]:
    """Return the nodes of the layers in `secret_layers`. Raises `CompileError` as that does."""
    nodes, findings = [], []
    for node in graph.nodes:
        if str(node.target) not in LINEAR or not info(node.args[0]).secret:
            continue
        shape = info(node.args[0]).shape
        if not isinstance(shape[0], Batch) or any(isinstance(dim, Batch) for dim in shape[1:]):
            record = info(node)
            findings.append(
                Diagnostic(
                    f"{node.name} reads a tensor whose first dimension is not the batch: {'x'.join(map(str, shape))}",
                    source=record.source,
                    help="move the batch to the first dimension, or run the layer outside the UNet",
                )
            )
            continue
        nodes.append(node)
    if findings:
        raise CompileError(findings)
    return nodes


def _folded(node: fx.Node) -> tuple[tuple[str, ...], fx.Node, Pair | None]:
    """Return the names of a layer's nodes, the node it reads, and the factors of an upsampling that is folded in, or None."""
    source: fx.Node = node.args[0]  # type: ignore[assignment]
    factor = _upsampling(source)
    if str(node.target).startswith("aten.conv2d") and factor and tuple(node.args[3]) == (1, 1):  # type: ignore[arg-type]
        return (source.name, node.name), source.args[0], factor  # type: ignore[return-value]
    return (node.name,), source, None


def _layer(graph: ModelGraph, node: fx.Node) -> Layer:
    weight = tensor_of(graph, node.args[1])
    bias = tensor_of(graph, node.args[2])
    if weight is None:
        raise CompileError(f"{node.name} has no constant weights")
    nodes, source, factor = _folded(node)
    shape = info(source).shape

    def form() -> tuple[Geometry, Array]:
        return _form(node, weight, shape, factor)

    geometry, weights = form()
    source, split = _split(graph, source, geometry, weights)
    record = info(node)
    part = Part(node.name, geometry.outputs, record.path, record.source)
    offset = np.zeros(geometry.outputs, np.float32) if bias is None else bias.astype(np.float32)
    geometry, _ = _without_zero_taps(geometry, weights)
    return Layer(nodes, FloatLinearOp(source.name, geometry, (part,), lambda: _without_zero_taps(*form())[1], offset, split))


def _split(graph: ModelGraph, source: fx.Node, geometry: Geometry, weights: Array) -> tuple[fx.Node, ChannelSplit]:
    """Return the value that a layer reads, and which of its channels are encrypted, revealed and absent."""
    absent = ~weights.any(axis=(0, 2)).reshape(geometry.channels, -1).any(axis=1)
    revealed, bits, tiles = np.zeros(geometry.channels, np.bool_), ChannelSplit.bits, None
    if str(source.target) == REVEAL:
        encrypted, bits = constant_of(graph, source.args[1]).numpy(), int(str(source.args[3]))
        if encrypted.ndim == 1:
            revealed = ~encrypted
        elif not encrypted.all():
            tiles = Tiles(len(encrypted), encrypted.shape[1], _numbers(encrypted))
        source = source.args[0]  # type: ignore[assignment]
    absent &= ~revealed
    if (absent | revealed).all():
        absent[np.argmax(absent)] = False  # at least one channel must be encrypted
    return source, ChannelSplit(geometry.channels, _numbers(revealed), _numbers(absent), bits, tiles)


def _numbers(mask: Array) -> tuple[int, ...]:
    return tuple(int(number) for number in np.flatnonzero(mask))


def _without_zero_taps(geometry: Geometry, weights: Array) -> tuple[Geometry, Array]:
    """Return the layer without the taps whose weights are all zero. At least one tap stays."""
    kept = np.flatnonzero(weights.any(axis=(0, 1)))
    kept = kept if len(kept) else np.arange(1)
    if len(kept) == len(geometry.taps):
        return geometry, weights
    taps = tuple(geometry.taps[place] for place in kept)
    return replace(geometry, taps=taps), np.ascontiguousarray(weights[:, :, kept])


def _upsampling(node: fx.Node) -> Pair | None:
    """Return the factors of a nearest upsampling by whole numbers that only one node reads; None for any other node."""
    if str(node.target) != UPSAMPLE or len(node.users) != 1:
        return None
    vertical, horizontal = (float(factor) for factor in node.args[2])  # type: ignore[union-attr, arg-type]
    if not (vertical.is_integer() and horizontal.is_integer()):
        return None
    return int(vertical), int(horizontal)


def _form(
    node: fx.Node, weight: Array, shape: Sequence[Any], factor: Pair | None, groups: int | None = None
) -> tuple[Geometry, Array]:
    """Return the geometry and the arranged weights of a layer's node. `weight` may be another than its own, then with other
    `groups`."""
    args: Any = node.args
    if str(node.target).startswith("aten.linear"):
        return forms.linear(weight, int(np.prod(shape[1:-1], dtype=np.int64)))
    size = (int(shape[2]), int(shape[3]))
    if str(node.target).startswith("aten.conv_transpose2d"):
        stride, padding, output_padding, own, dilation = args[3:8]
        return forms.conv_transpose2d(
            weight, size, tuple(stride), tuple(padding), tuple(output_padding), tuple(dilation), groups or own
        )
    stride, padding, dilation, own = args[3:7]
    if factor is not None:
        return forms.upsampled_conv2d(weight, size, factor, tuple(padding), tuple(dilation), int(groups or own))
    return forms.conv2d(weight, size, tuple(stride), tuple(padding), tuple(dilation), int(groups or own))


def group_layers(linear_ops: Sequence[FloatLinearOp]) -> tuple[FloatLinearOp, ...]:
    """Join linear operations with the same input, geometry and revealed part: into one with all rows, or as few as can be."""
    groups: dict[tuple[str, Geometry, ChannelSplit], list[FloatLinearOp]] = {}
    for linear_op in linear_ops:
        # absent channels may differ: of the joined operation those are absent that are absent in all
        key = (linear_op.input, replace(linear_op.geometry, outputs=1), replace(linear_op.split, absent=()))
        groups.setdefault(key, []).append(linear_op)
    return tuple(
        _grouped(group[places])
        for group in groups.values()
        for places in row_groups([linear_op.geometry.rows for linear_op in group])
    )


def _grouped(group: list[FloatLinearOp]) -> FloatLinearOp:
    if len(group) == 1:
        return group[0]
    parts = tuple(part for linear_op in group for part in linear_op.parts)
    geometry = replace(group[0].geometry, outputs=sum(part.outputs for part in parts))
    bias = np.concatenate([linear_op.bias for linear_op in group])
    absent = set.intersection(*(set(linear_op.split.absent) for linear_op in group))
    split = replace(group[0].split, absent=tuple(sorted(absent)))

    def weights() -> Array:
        return np.concatenate([linear_op.weights for linear_op in group])

    return FloatLinearOp(group[0].input, geometry, parts, weights, bias, split)
