"""Rules for linear layers, matrix products and attention (see `rewrites`)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.canonical.arithmetic import Number, add, scaled
from hecompile.frontend.canonical.batch import in_front
from hecompile.frontend.canonical.refusals import draws_numbers
from hecompile.frontend.canonical.rewrites import permute, repeated, reshape, rule, together
from hecompile.ir.builder import Builder
from hecompile.ir.graph import Batch

__all__ = ["matmul"]


@rule("linear.default")
def _linear(b: Builder, x: fx.Node, weight: fx.Node, bias: fx.Node | None = None) -> fx.Node:
    if len(b.shape(weight)) == 1:  # one output, for which torch has no dimension
        product = b.emit("aten.matmul.default", x, weight)
        return product if bias is None else add(b, product, bias)
    if b.value(weight) is None or (bias is not None and b.value(bias) is None):
        product = matmul(b, x, permute(b, weight, [1, 0]))
        return product if bias is None else add(b, product, bias)
    return _layer(b, x, weight, bias)


def _layer(b: Builder, x: fx.Node, weight: fx.Node, bias: fx.Node | None) -> fx.Node:
    """Return a linear layer over the last dimension, with constant weight (O, C) and bias (O). It reads the batch in front."""
    if isinstance(b.shape(x)[-1], Batch):
        raise CompileError(
            Diagnostic(
                "cannot multiply along the batch dimension", source=b.origin.source, help="treat all elements of the batch alike"
            )
        )
    return in_front(b, x, 1, lambda y: b.emit("aten.linear.default", y, weight, bias))


@rule("addmm.default")
def _addmm(b: Builder, bias: fx.Node, x: fx.Node, y: fx.Node, beta: Number = 1, alpha: Number = 1) -> fx.Node:
    known = b.value(y) is not None and b.value(bias) is not None and b.value(x) is None
    if beta == alpha == 1 and known and b.shape(bias) == b.shape(y)[1:]:
        return _layer(b, x, permute(b, y, [1, 0]), bias)
    return _sum(b, matmul(b, x, y), alpha, bias, beta)


def _sum(b: Builder, product: fx.Node, alpha: Number, bias: fx.Node, beta: Number) -> fx.Node:
    """Return alpha product + beta bias. With beta 0 the bias is not read, as torch documents, so that it may hold anything."""
    product = scaled(b, product, alpha)
    return product if beta == 0 else add(b, product, scaled(b, bias, beta))


@rule("matmul.default", "mm.default", "bmm.default")
def matmul(b: Builder, x: fx.Node, y: fx.Node) -> fx.Node:
    if b.value(y) is not None and len(b.shape(y)) == 2 and b.value(x) is None:
        return _layer(b, x, permute(b, y, [1, 0]), None)
    return b.emit("aten.matmul.default", x, y)


@rule("baddbmm.default")
def _baddbmm(b: Builder, bias: fx.Node, x: fx.Node, y: fx.Node, beta: Number = 1, alpha: Number = 1) -> fx.Node:
    return _sum(b, matmul(b, x, y), alpha, bias, beta)


@rule("bilinear.default")
def _bilinear(b: Builder, x: fx.Node, y: fx.Node, weight: fx.Node, bias: fx.Node | None = None) -> fx.Node:
    """Rewrite x^T W y for every W of the weight (O, I, J): a linear layer of y with O I outputs, then a product with x."""
    if b.value(weight) is None:
        raise CompileError(
            Diagnostic(
                "the weights of a bilinear layer must be constants", source=b.origin.source, help="do not compute them from inputs"
            )
        )
    outputs, inner, outer = b.shape(weight)
    rows = reshape(b, weight, (together((outputs, inner)), outer))
    layered = reshape(b, _layer(b, y, rows, None), (*b.shape(y)[:-1], outputs, inner))
    product = b.emit("aten.mul.Tensor", layered, reshape(b, x, (*b.shape(x)[:-1], 1, inner)))
    total = b.emit("aten.sum.dim_IntList", product, [len(b.shape(product)) - 1], False)
    return total if bias is None else add(b, total, bias)


@rule("scaled_dot_product_attention.default")
def _attention(
    b: Builder, q: fx.Node, k: fx.Node, v: fx.Node, mask: Any = None, dropout: float = 0.0, causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> fx.Node:  # fmt: skip
    if dropout:
        raise CompileError(draws_numbers(b, "attention with dropout"))
    if enable_gqa:
        k, v = (repeated(b, side, int(str(b.shape(q)[-3])) // int(str(b.shape(side)[-3])), -3) for side in (k, v))
    if causal:
        rows, columns = (int(b.shape(x)[-2]) for x in (q, k))  # type: ignore[arg-type]
        mask = b.constant(torch.ones(rows, columns, dtype=torch.bool).tril(), "causal")
    width = b.shape(q)[-1]
    used = scale if scale is not None else 1 / math.sqrt(int(width))  # type: ignore[arg-type]
    return b.emit("aten.scaled_dot_product_attention.default", q, k, v, mask, 0.0, False, scale=used)
