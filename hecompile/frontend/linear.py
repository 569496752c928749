"""Canonical spellings of linear layers, products and attention (see `rewrites`)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.arithmetic import Number, add, scaled
from hecompile.frontend.builder import Builder
from hecompile.frontend.rewrites import permute, rule

__all__ = ["matmul"]


@rule("linear.default")
def _linear(b: Builder, x: fx.Node, weight: fx.Node, bias: fx.Node | None = None) -> fx.Node:
    if b.value(weight) is None or (bias is not None and b.value(bias) is None):
        product = matmul(b, x, permute(b, weight, [1, 0]))
        return product if bias is None else add(b, product, bias)
    return b.emit("aten.linear.default", x, weight, bias)


@rule("addmm.default")
def _addmm(b: Builder, bias: fx.Node, x: fx.Node, y: fx.Node, beta: Number = 1, alpha: Number = 1) -> fx.Node:
    if beta == alpha == 1 and b.value(y) is not None and b.value(bias) is not None and len(b.shape(bias)) == 1:
        return b.emit("aten.linear.default", x, permute(b, y, [1, 0]), bias)
    return add(b, scaled(b, matmul(b, x, y), alpha), scaled(b, bias, beta))


@rule("matmul.default", "mm.default", "bmm.default")
def matmul(b: Builder, x: fx.Node, y: fx.Node) -> fx.Node:
    if b.value(y) is not None and len(b.shape(y)) == 2 and b.value(x) is None:
        return b.emit("aten.linear.default", x, permute(b, y, [1, 0]), None)
    return b.emit("aten.matmul.default", x, y)


@rule("baddbmm.default")
def _baddbmm(b: Builder, bias: fx.Node, x: fx.Node, y: fx.Node, beta: Number = 1, alpha: Number = 1) -> fx.Node:
    product = scaled(b, matmul(b, x, y), alpha)
    return product if beta == 0 else add(b, product, scaled(b, bias, beta))


@rule("conv2d.default", "convolution.default", "conv2d.padding")
def _conv2d(b: Builder, x: fx.Node, weight: fx.Node, bias: Any, stride: Any, padding: Any, dilation: Any, *rest: Any) -> fx.Node:
    if b.value(weight) is None:
        raise CompileError(Diagnostic("a convolution with computed weights", source=b.origin.source, help="make them constant"))
    pairs = [list(value) * (2 // len(value)) for value in (stride, dilation)]
    kernel = [int(size) for size in b.shape(weight)[2:]]  # type: ignore[arg-type]
    if isinstance(padding, str):
        total = [(dilation[0] * (size - 1)) if padding == "same" else 0 for size in kernel]
        if any(amount % 2 for amount in total):
            raise CompileError(Diagnostic("'same' padding of an even kernel", source=b.origin.source))
        padding = [amount // 2 for amount in total]
    pad = list(padding) * (2 // len(padding))
    if len(rest) == 3 and rest[0]:  # aten.convolution(..., transposed, output_padding, groups)
        return b.emit("aten.conv_transpose2d.input", x, weight, bias, pairs[0], pad, list(rest[1]), rest[2], pairs[1])
    return b.emit("aten.conv2d.default", x, weight, bias, pairs[0], pad, pairs[1], rest[-1])


@rule("conv_transpose2d.input")
def _conv_transpose2d(b: Builder, x: fx.Node, weight: fx.Node, bias: Any, *sizes: Any) -> fx.Node:
    stride, padding, output_padding, groups, dilation = sizes
    stride, padding, output_padding, dilation = (
        list(value) * (2 // len(value)) for value in (stride, padding, output_padding, dilation)
    )
    return b.emit("aten.conv_transpose2d.input", x, weight, bias, stride, padding, output_padding, groups, dilation)


@rule("scaled_dot_product_attention.default")
def _attention(
    b: Builder, q: fx.Node, k: fx.Node, v: fx.Node, mask: Any = None, dropout: float = 0.0, causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> fx.Node:  # fmt: skip
    if enable_gqa:
        raise CompileError(Diagnostic("grouped-query attention", source=b.origin.source, help="repeat the heads first"))
    if causal:
        rows, columns = (int(b.shape(x)[-2]) for x in (q, k))  # type: ignore[arg-type]
        mask = b.constant(torch.ones(rows, columns, dtype=torch.bool).tril(), "causal")
    width = b.shape(q)[-1]
    used = scale if scale is not None else 1 / math.sqrt(int(width))  # type: ignore[arg-type]
    return b.emit("aten.scaled_dot_product_attention.default", q, k, v, mask, 0.0, False, scale=used)
