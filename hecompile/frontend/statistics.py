"""Canonical spellings of reductions, softmax and norms (see `rewrites`)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.arithmetic import Number
from hecompile.frontend.builder import Builder
from hecompile.frontend.rewrites import RULES, Rule, cast, rule
from hecompile.ir.shapes import has_batch

__all__: list[str] = []


@rule("softmax.int", "_softmax.default")
def _softmax(b: Builder, x: fx.Node, dim: int, dtype: Any = None) -> fx.Node:
    x = cast(b, x, dtype if isinstance(dtype, torch.dtype) else None)  # `_softmax` has a flag here, of half precision on GPUs
    return b.emit("aten.softmax.int", x, _dims(b, x, dim)[0])


@rule("log_softmax.int", "_log_softmax.default")
def _log_softmax(b: Builder, x: fx.Node, dim: int, dtype: Any = None) -> fx.Node:
    """x - m - log(sum(exp(x - m))), which does not overflow."""
    x = cast(b, x, dtype if isinstance(dtype, torch.dtype) else None)
    dims = _dims(b, x, dim)
    centred = b.emit("aten.sub.Tensor", x, b.emit("aten.amax.default", x, dims, True))
    total = b.emit("aten.sum.dim_IntList", b.emit("aten.exp.default", centred), dims, True)
    return b.emit("aten.sub.Tensor", centred, b.emit("aten.log.default", total))


def _dims(b: Builder, x: fx.Node, dims: Any) -> list[int]:
    """The dimensions counted from the front, all for None; none of them may grow with the batch."""
    rank = len(b.shape(x))
    given: list[int] = [dims] if isinstance(dims, int) else list(dims or range(rank))
    places = sorted(dim % rank for dim in given) if rank else []
    if has_batch([b.shape(x)[dim] for dim in places]):
        raise CompileError(
            Diagnostic("a reduction over the batch", source=b.origin.source, help="reduce the other dimensions only")
        )
    return places


def _reduction(name: str) -> Rule:
    def emit(b: Builder, x: fx.Node, dims: Any = None, keep: bool = False, *, dtype: torch.dtype | None = None) -> fx.Node:
        dims = _dims(b, x, dims)
        return b.emit(name, cast(b, x, dtype), dims, keep)

    return emit


for _name in ("mean.dim", "sum.dim_IntList", "amax.default", "amin.default"):
    RULES[f"aten.{_name}"] = _reduction(f"aten.{_name}")
for _name, _of in {"mean": "mean.dim", "sum": "sum.dim_IntList", "max": "amax.default", "min": "amin.default"}.items():
    RULES[f"aten.{_name}.default"] = _reduction(f"aten.{_of}")


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


@rule("linalg_vector_norm.default")
def _vector_norm(b: Builder, x: fx.Node, order: Number = 2, dims: Any = None, keep: bool = False, *, dtype: Any = None) -> fx.Node:
    if order not in (1, 2, math.inf):
        raise CompileError(Diagnostic(f"a norm of order {order}", source=b.origin.source, help="use 1, 2 or infinity"))
    x, dims = cast(b, x, dtype), _dims(b, x, dims)
    if order == 2:
        return b.emit("aten.sqrt.default", b.emit("aten.sum.dim_IntList", b.emit("aten.mul.Tensor", x, x), dims, keep))
    name = "aten.sum.dim_IntList" if order == 1 else "aten.amax.default"
    return b.emit(name, b.emit("aten.abs.default", x), dims, keep)


@rule("_adaptive_avg_pool2d.default", "adaptive_avg_pool2d.default")
def _adaptive_pool(b: Builder, x: fx.Node, sizes: Any) -> fx.Node:
    """Equal windows; sizes that do not divide the picture are refused."""
    own = [int(size) for size in b.shape(x)[2:]]  # type: ignore[arg-type]
    if any(size % target for size, target in zip(own, sizes, strict=True)):
        raise CompileError(Diagnostic(f"adaptive pooling of {own} to {list(sizes)}", source=b.origin.source, help="use a divisor"))
    windows = [size // target for size, target in zip(own, sizes, strict=True)]
    return b.emit("aten.avg_pool2d.default", x, windows, windows, [0, 0], False, True)
