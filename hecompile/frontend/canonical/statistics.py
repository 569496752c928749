"""Rules for reductions, softmax and norms (see `rewrites`)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.canonical.arithmetic import Number
from hecompile.frontend.canonical.rewrites import RULES, Rule, cast, reshape, rule
from hecompile.ir.builder import Builder
from hecompile.ir.graph import info
from hecompile.ir.shapes import has_batch

__all__: list[str] = []


@rule("softmax.int", "_softmax.default")
def _softmax(b: Builder, x: fx.Node, dim: int, dtype: Any = None) -> fx.Node:
    x = cast(
        b, x, dtype if isinstance(dtype, torch.dtype) else None
    )  # `_softmax` has a flag in this place, for half precision on GPUs
    return b.emit("aten.softmax.int", x, _dims(b, x, dim)[0])


@rule("log_softmax.int", "_log_softmax.default")
def _log_softmax(b: Builder, x: fx.Node, dim: int, dtype: Any = None) -> fx.Node:
    """Rewrite log_softmax as x - m - log(sum(exp(x - m))) with m the largest entry, so that nothing overflows."""
    x = cast(b, x, dtype if isinstance(dtype, torch.dtype) else None)
    dims = _dims(b, x, dim)
    centred = b.emit("aten.sub.Tensor", x, b.emit("aten.amax.default", x, dims, True))
    total = b.emit("aten.sum.dim_IntList", b.emit("aten.exp.default", centred), dims, True)
    return b.emit("aten.sub.Tensor", centred, b.emit("aten.log.default", total))


def _dims(b: Builder, x: fx.Node, dims: Any) -> list[int]:
    """Return the dimensions to reduce, counted from the front; None stands for all. None of them may grow with the batch."""
    rank = len(b.shape(x))
    given: list[int] = [dims] if isinstance(dims, int) else list(dims or range(rank))
    places = sorted(dim % rank for dim in given) if rank else []
    if batch_dims := [dim for dim in places if has_batch([b.shape(x)[dim]])]:
        what = f"cannot reduce over the batch dimension (dim {batch_dims[0]})"
        raise CompileError(Diagnostic(what, source=b.origin.source, help="reduce the other dimensions only"))
    return places


def _reduction(name: str) -> Rule:
    def emit(b: Builder, x: fx.Node, dims: Any = None, keep: bool = False, *, dtype: torch.dtype | None = None) -> fx.Node:
        dims, x = _dims(b, x, dims), cast(b, x, dtype)
        if info(x).dtype == "bool" and name in ("aten.amax.default", "aten.amin.default"):
            return _of_truths(name)(b, x, dims, keep)
        return b.emit(name, x, dims, keep)

    return emit


for _name in ("mean.dim", "sum.dim_IntList", "amax.default", "amin.default"):
    RULES[f"aten.{_name}"] = _reduction(f"aten.{_name}")
for _name, _of in {"mean": "mean.dim", "sum": "sum.dim_IntList", "max": "amax.default", "min": "amin.default"}.items():
    RULES[f"aten.{_name}.default"] = _reduction(f"aten.{_of}")


def _of_truths(name: str) -> Rule:
    """Return the rule of any or all, as the largest or smallest of zeros and ones."""

    def emit(b: Builder, x: fx.Node, dims: Any = None, keep: bool = False) -> fx.Node:
        ones = cast(b, cast(b, x, torch.bool), torch.float32)
        return cast(b, b.emit(name, ones, _dims(b, x, dims), keep), torch.bool)

    return emit


for _name in ("dim", "dims", "default"):
    RULES[f"aten.any.{_name}"], RULES[f"aten.all.{_name}"] = _of_truths("aten.amax.default"), _of_truths("aten.amin.default")


@rule("prod.dim_int", "prod.default")
def _prod(b: Builder, x: fx.Node, dim: int | None = None, keep: bool = False, *, dtype: torch.dtype | None = None) -> fx.Node:
    """Rewrite a product by multiplying the two halves with each other until one entry is left."""
    x = cast(b, x, dtype if dtype is not None else None if info(x).dtype.startswith("float") else torch.int64)
    for place in _dims(b, x, dim)[::-1]:
        size = int(str(b.shape(x)[place]))
        while size > 1:
            half = size // 2
            parts = [b.emit("aten.slice.Tensor", x, place, start, start + half, 1) for start in (0, half)]
            rest = [b.emit("aten.slice.Tensor", x, place, 2 * half, size, 1)] if size % 2 else []
            product = b.emit("aten.mul.Tensor", *parts)
            x, size = b.emit("aten.cat.default", [product, *rest], place) if rest else product, half + len(rest)
        x = x if keep else reshape(b, x, (*b.shape(x)[:place], *b.shape(x)[place + 1 :]))
    return x


@rule("var.correction")
def _var(b: Builder, x: fx.Node, dims: Any, correction: Number | None = None, keepdim: bool = False) -> fx.Node:
    dims = _dims(b, x, dims)
    centred = b.emit("aten.sub.Tensor", x, b.emit("aten.mean.dim", x, dims, True))
    variance = b.emit("aten.mean.dim", b.emit("aten.mul.Tensor", centred, centred), dims, keepdim)
    count = math.prod(int(b.shape(x)[dim]) for dim in dims)
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
    """Rewrite a batch norm with fixed statistics as a scale and a shift per channel, both constants."""
    if training or mean is None:
        raise CompileError(
            Diagnostic(
                "a batch norm cannot use the statistics of the batch",
                source=b.origin.source,
                help="track statistics, and call eval()",
            )
        )
    shape = (-1, *(1 for _ in b.shape(x)[2:]))
    deviation = b.emit("aten.sqrt.default", b.emit("aten.add.Tensor", var, eps))
    scale = b.emit("aten.reciprocal.default", deviation) if weight is None else b.emit("aten.div.Tensor", weight, deviation)
    shift = b.emit("aten.neg.default", b.emit("aten.mul.Tensor", mean, scale))
    shift = shift if bias is None else b.emit("aten.add.Tensor", shift, bias)
    scale, shift = (b.emit("aten.reshape.default", part, list(shape)) for part in (scale, shift))
    return b.emit("aten.add.Tensor", b.emit("aten.mul.Tensor", x, scale), shift)


@rule("linalg_vector_norm.default")
def _vector_norm(b: Builder, x: fx.Node, order: Number = 2, dims: Any = None, keep: bool = False, *, dtype: Any = None) -> fx.Node:
    x, dims = cast(b, x, dtype), _dims(b, x, dims)
    if order == 2:
        return b.emit("aten.sqrt.default", b.emit("aten.sum.dim_IntList", b.emit("aten.mul.Tensor", x, x), dims, keep))
    size = b.emit("aten.abs.default", x)
    if math.isinf(order):
        return b.emit("aten.amax.default" if order > 0 else "aten.amin.default", size, dims, keep)
    if order == 0:
        size = cast(b, cast(b, x, torch.bool), torch.float32)
    powers = size if order in (0, 1) else b.emit("aten.pow.Tensor_Tensor", size, b.constant(torch.tensor(float(order)), "order"))
    total = b.emit("aten.sum.dim_IntList", powers, dims, keep)
    root = b.constant(torch.tensor(1 / (order or 1)), "order")
    return total if order in (0, 1) else b.emit("aten.pow.Tensor_Tensor", total, root)


@rule("_cdist_forward.default")
def _cdist(b: Builder, x: fx.Node, y: fx.Node, order: Number, *_: Any) -> fx.Node:
    """Return the norms of the differences of every two rows: (.., P, M) and (.., R, M) -> (.., P, R)."""
    first, second = b.shape(x), b.shape(y)
    rows, columns = reshape(b, x, (*first[:-1], 1, first[-1])), reshape(b, y, (*second[:-2], 1, *second[-2:]))
    return _vector_norm(b, b.emit("aten.sub.Tensor", rows, columns), order, [-1])
