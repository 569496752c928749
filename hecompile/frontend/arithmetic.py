"""Canonical spellings of arithmetic, linear layers, attention and norms (see `rewrites`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.builder import Builder
from hecompile.frontend.rewrites import RULES, _permute, reshape, rule
from hecompile.ir.graph import info
from hecompile.ir.shapes import has_batch

__all__ = ["RULES"]

Number = int | float


def _scaled(b: Builder, y: Any, alpha: Number) -> Any:
    if alpha == 1:
        return y
    return y * alpha if isinstance(y, int | float) else b.emit("aten.mul.Tensor", y, alpha)


def _is_sigmoid_of(candidate: Any, x: Any) -> bool:
    return isinstance(candidate, fx.Node) and str(candidate.target) == "aten.sigmoid.default" and candidate.args[0] is x


def _neutral(b: Builder, x: Any, result_dtype: str) -> bool:
    """Whether x may stand for the result of an operation that left its values alone."""
    return isinstance(x, fx.Node) and info(x).dtype == result_dtype


@rule("add.Tensor", "add.Scalar", "add_.Tensor")
def _add(b: Builder, x: Any, y: Any, alpha: Number = 1) -> fx.Node:
    y = _scaled(b, y, alpha)
    if isinstance(y, int | float) and y == 0:
        return x  # type: ignore[no-any-return]
    return b.emit("aten.add.Tensor", x, y)


@rule("sub.Tensor", "sub.Scalar")
def _sub(b: Builder, x: Any, y: Any, alpha: Number = 1) -> fx.Node:
    return b.emit("aten.sub.Tensor", x, _scaled(b, y, alpha))


@rule("rsub.Scalar", "rsub.Tensor")
def _rsub(b: Builder, x: Any, y: Any, alpha: Number = 1) -> fx.Node:
    return _add(b, b.emit("aten.neg.default", _scaled(b, x, alpha)), y)


@rule("mul.Tensor", "mul.Scalar", "mul_.Tensor")
def _mul(b: Builder, x: Any, y: Any) -> fx.Node:
    if isinstance(y, int | float) and y == 1:
        return x  # type: ignore[no-any-return]
    for gate, value in ((x, y), (y, x)):
        if _is_sigmoid_of(gate, value):
            return b.emit("aten.silu.default", value)
        if isinstance(gate, fx.Node) and str(gate.target) == "aten.tanh.default" and _is_softplus_of(gate.args[0], value):
            return b.emit("aten.mish.default", value)
    return b.emit("aten.mul.Tensor", x, y)


def _is_softplus_of(candidate: Any, x: Any) -> bool:
    return isinstance(candidate, fx.Node) and str(candidate.target) == "aten.softplus.default" and candidate.args[0] is x


@rule("div.Tensor", "div.Scalar", "div_.Tensor")
def _div(b: Builder, x: Any, y: Any) -> fx.Node:
    if isinstance(y, int | float):
        return _mul(b, x, 1.0) if y == 1 else b.emit("aten.div.Tensor", x, y)
    return b.emit("aten.div.Tensor", x, y)


@rule("pow.Tensor_Scalar", "pow.Tensor_Tensor")
def _pow(b: Builder, x: fx.Node, y: Any) -> fx.Node:
    if y == 2:
        return b.emit("aten.mul.Tensor", x, x)
    if y == 0.5:
        return b.emit("aten.sqrt.default", x)
    exponent = b.constant(torch.tensor(float(y)), "exponent") if isinstance(y, int | float) else y
    return b.emit("aten.pow.Tensor_Tensor", x, exponent)


@rule("square.default")
def _square(b: Builder, x: fx.Node) -> fx.Node:
    return b.emit("aten.mul.Tensor", x, x)


@rule("rsqrt.default")
def _rsqrt(b: Builder, x: fx.Node) -> fx.Node:
    return b.emit("aten.reciprocal.default", b.emit("aten.sqrt.default", x))


def _comparison(name: str) -> Any:
    def emit(b: Builder, x: fx.Node, y: Any) -> fx.Node:
        return b.emit(f"aten.{name}.Tensor", x, y if isinstance(y, fx.Node) else b.constant(torch.tensor(y), "limit"))

    return emit


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    RULES[f"aten.{_name}.Scalar"] = _comparison(_name)


@rule("where.self", "where.ScalarSelf", "where.ScalarOther", "where.Scalar")
def _where(b: Builder, condition: fx.Node, x: Any, y: Any) -> fx.Node:
    sides = [side if isinstance(side, fx.Node) else b.constant(torch.tensor(side), "side") for side in (x, y)]
    return b.emit("aten.where.self", condition, *sides)


@rule("masked_fill.Scalar")
def _masked_fill(b: Builder, x: fx.Node, mask: fx.Node, value: float) -> fx.Node:
    return _where(b, mask, value, x)


@rule("clamp_min.default")
def _clamp_min(b: Builder, x: fx.Node, low: float) -> fx.Node:
    return b.emit("aten.clamp.default", x, low, None)


@rule("silu_.default")
def _silu(b: Builder, x: fx.Node) -> fx.Node:
    return b.emit("aten.silu.default", x)


@rule("relu_.default")
def _relu(b: Builder, x: fx.Node) -> fx.Node:
    return b.emit("aten.relu.default", x)


@rule("linear.default")
def _linear(b: Builder, x: fx.Node, weight: fx.Node, bias: fx.Node | None = None) -> fx.Node:
    if b.value(weight) is None or (bias is not None and b.value(bias) is None):
        product = _matmul(b, x, _permute(b, weight, [1, 0]))
        return product if bias is None else _add(b, product, bias)
    return b.emit("aten.linear.default", x, weight, bias)


@rule("addmm.default")
def _addmm(b: Builder, bias: fx.Node, x: fx.Node, y: fx.Node, beta: Number = 1, alpha: Number = 1) -> fx.Node:
    if beta == alpha == 1 and b.value(y) is not None and b.value(bias) is not None and len(b.shape(bias)) == 1:
        return b.emit("aten.linear.default", x, _permute(b, y, [1, 0]), bias)
    return _add(b, _scaled(b, _matmul(b, x, y), alpha), _scaled(b, bias, beta))


@rule("matmul.default", "mm.default", "bmm.default")
def _matmul(b: Builder, x: fx.Node, y: fx.Node) -> fx.Node:
    if b.value(y) is not None and len(b.shape(y)) == 2 and b.value(x) is None:
        return b.emit("aten.linear.default", x, _permute(b, y, [1, 0]), None)
    return b.emit("aten.matmul.default", x, y)


@rule("baddbmm.default")
def _baddbmm(b: Builder, bias: fx.Node, x: fx.Node, y: fx.Node, beta: Number = 1, alpha: Number = 1) -> fx.Node:
    product = _scaled(b, _matmul(b, x, y), alpha)
    return product if beta == 0 else _add(b, product, _scaled(b, bias, beta))


@rule("einsum.default")
def _einsum(b: Builder, equation: str, operands: Sequence[fx.Node], path: object = None) -> fx.Node:
    """Two operands without repeated indices, as one batched matmul."""
    equation = equation.replace(" ", "")
    terms, _, output = equation.partition("->")
    names = terms.split(",")
    plain = len(names) == 2 and "." not in equation and output and all(len(set(name)) == len(name) for name in names)
    if not plain or set(output) - set(terms):
        raise CompileError(Diagnostic(f"einsum '{equation}'", source=b.origin.source, help="write it as matmul and permute"))
    (left, right), (x, y) = names, operands
    summed = [index for index in left if index in right and index not in output]
    shared = [index for index in output if index in left and index in right]
    rows = [index for index in left if index not in right]
    columns = [index for index in right if index not in left]
    if set(rows) | set(columns) != set(output) - set(shared):
        raise CompileError(Diagnostic(f"einsum '{equation}' sums over one operand alone", source=b.origin.source))
    sizes = dict(zip(left, b.shape(x), strict=True)) | dict(zip(right, b.shape(y), strict=True))

    def arranged(node: fx.Node, own: str, groups: Sequence[Sequence[str]]) -> fx.Node:
        flat = [index for group in groups for index in group]
        turned = _permute(b, node, [own.index(index) for index in flat])
        inner = [math.prod(int(sizes[index]) for index in group) for group in groups[1:]]  # type: ignore[arg-type]
        return reshape(b, turned, (*(sizes[index] for index in groups[0]), *inner))

    product = _matmul(b, arranged(x, left, (shared, rows, summed)), arranged(y, right, (shared, summed, columns)))
    order = [*shared, *rows, *columns]
    product = reshape(b, product, tuple(sizes[index] for index in order))
    return _permute(b, product, [order.index(index) for index in output])


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
    width = b.shape(q)[-1]
    used = scale if scale is not None else 1 / math.sqrt(int(width))  # type: ignore[arg-type]
    return b.emit("aten.scaled_dot_product_attention.default", q, k, v, mask, 0.0, causal, scale=used)


@rule("softmax.int", "_softmax.default", "log_softmax.int")
def _softmax(b: Builder, x: fx.Node, dim: int, *_: Any) -> fx.Node:
    return b.emit("aten.softmax.int", x, dim % len(b.shape(x)))


def _over_all(name: str) -> Any:
    """A reduction of everything: of the batch too, if the value has one, and that is refused."""

    def emit(b: Builder, x: fx.Node, **_: Any) -> fx.Node:
        if has_batch(b.shape(x)):
            raise CompileError(
                Diagnostic("a reduction over the batch", source=b.origin.source, help="reduce the other dimensions only")
            )
        return b.emit(name, x, list(range(len(b.shape(x)))), False)

    return emit


RULES["aten.mean.default"], RULES["aten.sum.default"] = _over_all("aten.mean.dim"), _over_all("aten.sum.dim_IntList")


@rule("outer.default")
def _outer(b: Builder, x: fx.Node, y: fx.Node) -> fx.Node:
    return b.emit("aten.mul.Tensor", reshape(b, x, (*b.shape(x), 1)), y)


@rule("var.correction")
def _var(b: Builder, x: fx.Node, dims: Any, correction: Number | None = None, keepdim: bool = False) -> fx.Node:
    dims = [dim % len(b.shape(x)) for dim in dims]
    centred = b.emit("aten.sub.Tensor", x, b.emit("aten.mean.dim", x, dims, True))
    variance = b.emit("aten.mean.dim", b.emit("aten.mul.Tensor", centred, centred), dims, keepdim)
    count = math.prod(int(b.shape(x)[dim]) for dim in dims)  # type: ignore[arg-type]
    correction = 1 if correction is None else correction
    return variance if correction == 0 else b.emit("aten.mul.Tensor", variance, count / (count - correction))


@rule("var.dim")
def _var_unbiased(b: Builder, x: fx.Node, dims: Any, unbiased: bool = True, keepdim: bool = False) -> fx.Node:
    return _var(b, x, dims, correction=int(unbiased), keepdim=keepdim)


@rule("std.correction")
def _std(b: Builder, x: fx.Node, dims: Any, correction: Number | None = None, keepdim: bool = False) -> fx.Node:
    return b.emit("aten.sqrt.default", _var(b, x, dims, correction, keepdim))


@rule("std.dim")
def _std_unbiased(b: Builder, x: fx.Node, dims: Any, unbiased: bool = True, keepdim: bool = False) -> fx.Node:
    return _std(b, x, dims, int(unbiased), keepdim)


@rule("group_norm.default")
def _group_norm(b: Builder, x: fx.Node, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any) -> fx.Node:
    return b.emit("aten.group_norm.default", x, groups, weight, bias, eps)


@rule("instance_norm.default")
def _instance_norm(
    b: Builder, x: fx.Node, weight: Any, bias: Any, mean: Any, var: Any, own_statistics: bool, momentum: float, eps: float, *_: Any
) -> fx.Node:
    if not own_statistics:
        return _batch_norm(b, x, weight, bias, mean, var, False, momentum, eps)
    return b.emit("aten.group_norm.default", x, b.shape(x)[1], weight, bias, eps)


@rule("batch_norm.default")
def _batch_norm(
    b: Builder, x: fx.Node, weight: Any, bias: Any, mean: Any, var: Any, training: bool, momentum: float, eps: float, *_: Any
) -> fx.Node:
    """With fixed statistics: a scale and a shift per channel, both constants."""
    if training or mean is None:
        raise CompileError(
            Diagnostic(
                "a batch norm with statistics of the batch", source=b.origin.source, help="call eval(), and track statistics"
            )
        )
    shape = (-1, *(1 for _ in b.shape(x)[2:]))
    deviation = b.emit("aten.sqrt.default", b.emit("aten.add.Tensor", var, eps))
    scale = b.emit("aten.reciprocal.default", deviation) if weight is None else b.emit("aten.div.Tensor", weight, deviation)
    shift = b.emit("aten.neg.default", b.emit("aten.mul.Tensor", mean, scale))
    shift = shift if bias is None else b.emit("aten.add.Tensor", shift, bias)
    scale, shift = (b.emit("aten.reshape.default", part, list(shape)) for part in (scale, shift))
    return b.emit("aten.add.Tensor", b.emit("aten.mul.Tensor", x, scale), shift)


@rule("gelu.default")
def _gelu(b: Builder, x: fx.Node, approximate: str = "none") -> fx.Node:
    return b.emit("aten.gelu.default", x, approximate=approximate)
