"""Writes linear layers, softmax, norms and embeddings in ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hecompile.ir.graph import info
from hecompile.onnx_export.writer import Writer, emits

if TYPE_CHECKING:
    from torch import fx

Args = Sequence[Any]


@emits("conv2d.default")
def _conv2d(w: Writer, node: fx.Node, args: Args) -> str:
    x, weight, bias, stride, padding, dilation, groups = args
    inputs = [x, weight] + ([] if bias is None else [bias])
    return w.call("Conv", inputs, strides=stride, pads=[*padding, *padding], dilations=dilation, group=groups)


@emits("conv_transpose2d.input")
def _conv_transpose2d(w: Writer, node: fx.Node, args: Args) -> str:
    x, weight, bias, stride, padding, output_padding, groups, dilation = args
    inputs = [x, weight] + ([] if bias is None else [bias])
    return w.call(
        "ConvTranspose", inputs, strides=stride, pads=[*padding, *padding], output_padding=output_padding,
        dilations=dilation, group=groups,
    )  # fmt: skip


@emits("linear.default")
def _linear(w: Writer, node: fx.Node, args: Args) -> str:
    x, weight, bias = args
    product = w.call("MatMul", [x, w.call("Transpose", [weight], perm=[1, 0])])
    return product if bias is None else w.call("Add", [product, bias])


@emits("matmul.default")
def _matmul(w: Writer, node: fx.Node, args: Args) -> str:
    return w.call("MatMul", args[:2])


@emits("softmax.int")
def _softmax(w: Writer, node: fx.Node, args: Args) -> str:
    return w.call("Softmax", args[:1], axis=args[1])


@emits("group_norm.default")
def _group_norm(w: Writer, node: fx.Node, args: Args) -> str:
    x, groups, weight, bias, eps = args
    shape = info(node).shape
    grouped = w.call("Reshape", [x, w.ints([0, groups, -1])])
    ones, zeros = w.constant(np.ones(groups), np.float32), w.constant(np.zeros(groups), np.float32)
    normed = w.call("InstanceNormalization", [grouped, ones, zeros], epsilon=float(eps))
    result = w.call("Reshape", [normed, w.ints([0, *(int(dim) for dim in shape[1:])])])  # type: ignore[arg-type]
    per_channel = w.ints([-1, *[1] * (len(shape) - 2)])
    if weight is not None:
        result = w.call("Mul", [result, w.call("Reshape", [weight, per_channel])])
    return result if bias is None else w.call("Add", [result, w.call("Reshape", [bias, per_channel])])


@emits("layer_norm.default")
def _layer_norm(w: Writer, node: fx.Node, args: Args) -> str:
    x, shape, weight, bias, eps = args
    scale = weight if weight is not None else w.constant(np.ones(shape), np.float32)
    inputs = [x, scale] + ([] if bias is None else [bias])
    return w.call("LayerNormalization", inputs, axis=-len(shape), epsilon=float(eps))


@emits("embedding.default")
def _embedding(w: Writer, node: fx.Node, args: Args) -> str:
    """Write a lookup of rows. Indices are clipped, since a client region must not fail depending on a secret value."""
    table, places = (info(arg) for arg in node.all_input_nodes[:2])
    bounds = [w.constant(bound, np.dtype(places.dtype)) for bound in (0, int(table.shape[0]) - 1)]  # type: ignore[arg-type]
    return w.call("Gather", [args[0], w.call("Clip", [args[1], *bounds])], axis=0)
