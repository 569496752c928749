"""Finding the linear layers of secret data in a canonical graph, each as a `Product`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hecompile.errors import CompileError, Diagnostic
from hecompile.ir import linear as forms
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.graph import Batch, ModelGraph, info
from hecompile.ir.linear import Array, Geometry, Pair, Part, stackable
from hecompile.ir.ops import LINEAR, RELEASE, UPSAMPLE
from hecompile.ir.products import Product
from hecompile.ir.tiles import Tiles
from hecompile.progress import tell

if TYPE_CHECKING:
    import torch
    from torch import fx

__all__ = ["Layer", "LayerShape", "constant_of", "secret_layers", "secret_shapes", "stack", "tensor_of"]


@dataclass(frozen=True, eq=False)
class Layer:
    """One linear layer: its nodes (an upsampling that was folded in, then the layer itself) and the product it is."""

    nodes: tuple[str, ...]
    product: Product


def constant_of(graph: ModelGraph, node: object) -> torch.Tensor:
    """The constant behind a `get_attr` node."""
    target: Any = graph.graph_module
    for name in str(getattr(node, "target", "")).split("."):
        target = getattr(target, name)
    found: torch.Tensor = target.detach()
    return found


def tensor_of(graph: ModelGraph, node: object) -> Array | None:
    """The same as an array; None for no node."""
    if node is None:
        return None
    array: Array = constant_of(graph, node).numpy()
    return array


@dataclass(frozen=True)
class LayerShape:
    """A linear layer without its weights: what costs depend on."""

    nodes: tuple[str, ...]
    input: str
    geometry: Geometry
    multiple: int  # pictures per entry of the batch


def secret_layers(graph: ModelGraph, names: Collection[str] | None = None) -> list[Layer]:
    """Every conv and linear that reads a secret value, in execution order, with its weights; or those of these names alone.

    Raises:
        CompileError: for layers without a batch in front.
    """
    nodes, layers = [node for node in _secret_linear_nodes(graph) if names is None or node.name in names], list[Layer]()
    for node in nodes:
        layers.append(_layer(graph, node))
        tell("reading layers", len(layers), len(nodes))
    return layers


def secret_shapes(graph: ModelGraph) -> list[LayerShape]:
    """The same layers without weights, for graphs on the meta device too. Raises `CompileError` as `secret_layers` does."""
    shapes = []
    for node in _secret_linear_nodes(graph):
        nodes, source, factor = _folded(node)
        source = source.all_input_nodes[0] if str(source.target) == RELEASE else source
        size = [int(str(dim)) for dim in info(node.args[1]).shape]
        transposed = str(node.target).startswith("aten.conv_transpose2d")
        linear = len(size) == 2
        geometry, _ = _form(node, np.ones((1, 1, *size[2:]), np.float32), info(source).shape, factor, groups=1)
        channels = size[0] if transposed else info(source).shape[-1 if linear else 1]
        outputs = info(node).shape[-1 if linear else 1]
        geometry = replace(geometry, channels=int(str(channels)), outputs=int(str(outputs)))
        first = info(source).shape[0]
        multiple = first.multiple if isinstance(first, Batch) else 1
        shapes.append(LayerShape(nodes, source.name, geometry, multiple))
    return shapes


def _secret_linear_nodes(graph: ModelGraph) -> list[fx.Node]:
    """The linear nodes that read a secret."""
    nodes, findings = [], []
    for node in graph.nodes:
        if str(node.target) not in LINEAR or not info(node.args[0]).secret:
            continue
        shape = info(node.args[0]).shape
        if not isinstance(shape[0], Batch) or any(isinstance(dim, Batch) for dim in shape[1:]):
            record = info(node)
            findings.append(
                Diagnostic(
                    f"{node.name} reads a tensor without the batch in front: {'x'.join(map(str, shape))}",
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
    """The nodes of a layer, the value it reads, and the factors of an upsampling that is folded in."""
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
    return Layer(nodes, Product(source.name, geometry, (part,), lambda: _without_zero_taps(*form())[1], offset, split))


def _split(graph: ModelGraph, source: fx.Node, geometry: Geometry, weights: Array) -> tuple[fx.Node, ChannelSplit]:
    """The value that a layer reads, and which of its channels the server gets how."""
    absent = ~weights.any(axis=(0, 2)).reshape(geometry.channels, -1).any(axis=1)
    released, bits, tiles = np.zeros(geometry.channels, np.bool_), ChannelSplit.bits, None
    if str(source.target) == RELEASE:
        encrypted, bits = constant_of(graph, source.args[1]).numpy(), int(str(source.args[3]))
        if encrypted.ndim == 1:
            released = ~encrypted
        elif not encrypted.all():
            tiles = Tiles(len(encrypted), encrypted.shape[1], _numbers(encrypted))
        source = source.args[0]  # type: ignore[assignment]
    absent &= ~released
    if (absent | released).all():
        absent[np.argmax(absent)] = False  # a ciphertext there must be
    return source, ChannelSplit(geometry.channels, _numbers(released), _numbers(absent), bits, tiles)


def _numbers(mask: Array) -> tuple[int, ...]:
    return tuple(int(number) for number in np.flatnonzero(mask))


def _without_zero_taps(geometry: Geometry, weights: Array) -> tuple[Geometry, Array]:
    """Taps whose weights are all zero are not multiplied; one is kept."""
    kept = np.flatnonzero(weights.any(axis=(0, 1)))
    kept = kept if len(kept) else np.arange(1)
    if len(kept) == len(geometry.taps):
        return geometry, weights
    taps = tuple(geometry.taps[place] for place in kept)
    return replace(geometry, taps=taps), np.ascontiguousarray(weights[:, :, kept])


def _upsampling(node: fx.Node) -> Pair | None:
    """The whole factors of a nearest upsampling that only one node reads."""
    if str(node.target) != UPSAMPLE or len(node.users) != 1:
        return None
    vertical, horizontal = (float(factor) for factor in node.args[2])  # type: ignore[union-attr, arg-type]
    if not (vertical.is_integer() and horizontal.is_integer()):
        return None
    return int(vertical), int(horizontal)


def _form(
    node: fx.Node, weight: Array, shape: Sequence[Any], factor: Pair | None, groups: int | None = None
) -> tuple[Geometry, Array]:
    """The node as geometry and weights, for weights other than its own with other `groups`."""
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


def stack(products: Sequence[Product]) -> tuple[Product, ...]:
    """Products with one input, one geometry and the same part released become one with all their rows, or as few as can be."""
    groups: dict[tuple[str, Geometry, ChannelSplit], list[Product]] = {}
    for product in products:
        # which channels are absent may differ: those that all leave out are left out
        key = (product.input, replace(product.geometry, outputs=1), replace(product.split, absent=()))
        groups.setdefault(key, []).append(product)
    return tuple(
        _stacked(group[places]) for group in groups.values() for places in stackable([each.geometry.rows for each in group])
    )


def _stacked(group: list[Product]) -> Product:
    if len(group) == 1:
        return group[0]
    parts = tuple(part for product in group for part in product.parts)
    geometry = replace(group[0].geometry, outputs=sum(part.outputs for part in parts))
    bias = np.concatenate([product.bias for product in group])
    absent = set.intersection(*(set(product.split.absent) for product in group))
    split = replace(group[0].split, absent=tuple(sorted(absent)))

    def weights() -> Array:
        return np.concatenate([product.weights for product in group])

    return Product(group[0].input, geometry, parts, weights, bias, split)
