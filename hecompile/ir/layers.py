"""Finding the linear layers of secret data in a canonical graph, each as a `Product`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from hecompile.errors import CompileError, Diagnostic
from hecompile.ir import linear as forms
from hecompile.ir.graph import Batch, ModelGraph, info
from hecompile.ir.linear import Array, Geometry, Pair
from hecompile.ir.ops import LINEAR
from hecompile.ir.products import Part, Product

if TYPE_CHECKING:
    from torch import fx

__all__ = ["Layer", "secret_layers", "stack", "tensor_of"]

UPSAMPLE = "aten.upsample_nearest2d.vec"


@dataclass(frozen=True, eq=False)
class Layer:
    """One linear layer: its nodes (an upsampling that was folded in, then the layer itself) and the product it is."""

    nodes: tuple[str, ...]
    product: Product


def tensor_of(graph: ModelGraph, node: object) -> Array | None:
    """The constant behind a `get_attr` node as an array; None for no node."""
    if node is None:
        return None
    target: Any = graph.graph_module
    for name in str(getattr(node, "target", "")).split("."):
        target = getattr(target, name)
    array: Array = target.detach().numpy()
    return array


def secret_layers(graph: ModelGraph) -> list[Layer]:
    """Every conv and linear that reads a secret value, in execution order.

    Raises:
        CompileError: for layers without a batch in front.
    """
    layers, findings = [], []
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
        layers.append(_layer(graph, node))
    if findings:
        raise CompileError(findings)
    return layers


def _layer(graph: ModelGraph, node: fx.Node) -> Layer:
    source: fx.Node = node.args[0]  # type: ignore[assignment]
    weight = tensor_of(graph, node.args[1])
    bias = tensor_of(graph, node.args[2])
    if weight is None:
        raise CompileError(f"{node.name} has no constant weights")
    nodes = [node.name]
    factor = _upsampling(source)
    if str(node.target).startswith("aten.conv2d") and factor and tuple(node.args[3]) == (1, 1):  # type: ignore[arg-type]
        nodes.insert(0, source.name)
        source = source.args[0]  # type: ignore[assignment]
    else:
        factor = None
    geometry, weights = _form(node, weight, info(source).shape, factor)
    record = info(node)
    part = Part(node.name, geometry.outputs, record.path, record.source)
    offset = np.zeros(geometry.outputs, np.float32) if bias is None else bias.astype(np.float32)
    return Layer(tuple(nodes), Product(source.name, geometry, (part,), weights, offset))


def _upsampling(node: fx.Node) -> Pair | None:
    """The whole factors of a nearest upsampling that only one node reads."""
    if str(node.target) != UPSAMPLE or len(node.users) != 1:
        return None
    vertical, horizontal = (float(factor) for factor in node.args[2])  # type: ignore[union-attr, arg-type]
    if not (vertical.is_integer() and horizontal.is_integer()):
        return None
    return int(vertical), int(horizontal)


def _form(node: fx.Node, weight: Array, shape: Sequence[Any], factor: Pair | None) -> tuple[Geometry, Array]:
    """The node as geometry and weights."""
    args: Any = node.args
    if str(node.target).startswith("aten.linear"):
        return forms.linear(weight, int(np.prod(shape[1:-1], dtype=np.int64)))
    size = (int(shape[2]), int(shape[3]))
    if str(node.target).startswith("aten.conv_transpose2d"):
        stride, padding, output_padding, groups, dilation = args[3:8]
        return forms.conv_transpose2d(weight, size, tuple(stride), tuple(padding), tuple(output_padding), tuple(dilation), groups)
    stride, padding, dilation, groups = args[3:7]
    if factor is not None:
        return forms.upsampled_conv2d(weight, size, factor, tuple(padding), tuple(dilation), groups)
    return forms.conv2d(weight, size, tuple(stride), tuple(padding), tuple(dilation), groups)


def stack(products: Sequence[Product]) -> tuple[Product, ...]:
    """Products with one input and one geometry become one with all their rows; the others stay as they are."""
    groups: dict[tuple[str, Geometry], list[Product]] = {}
    for product in products:
        groups.setdefault((product.input, replace(product.geometry, outputs=1)), []).append(product)
    return tuple(_stacked(group) for group in groups.values())


def _stacked(group: list[Product]) -> Product:
    if len(group) == 1:
        return group[0]
    parts = tuple(part for product in group for part in product.parts)
    geometry = replace(group[0].geometry, outputs=sum(part.outputs for part in parts))
    weights = np.concatenate([product.weights for product in group])
    return Product(group[0].input, geometry, parts, weights, np.concatenate([product.bias for product in group]))
