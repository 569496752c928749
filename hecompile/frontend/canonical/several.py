"""Rewrites calls with several results as calls with one each: splits, and norms that also return their statistics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.canonical.pools import adaptive_max, max_pool
from hecompile.frontend.canonical.refusals import draws_numbers, refusal, showing
from hecompile.ir.builder import Builder
from hecompile.ir.graph import Batch
from hecompile.ir.shapes import BATCHES

__all__ = ["emit_several", "is_split"]

Results = Sequence[fx.Node | None]  # None where a result has no rule, so that reading it is an error
_SPLITS = ("chunk", "split", "split_with_sizes", "tensor_split", "unbind", "unsafe_split", "unsafe_chunk", "split_copy")


def is_split(name: str) -> bool:
    """Return whether a call divides a value into pieces."""
    return name.split(".")[1] in _SPLITS


def emit_several(
    builder: Builder, name: str, args: Sequence[Any], kwargs: dict[str, Any], results: Sequence[Any], later: Sequence[Any]
) -> Results:
    """Return one node per result of `name(*args)`; `results` and `later` are the results at batch 2 and 3, as tensors without data.

    Raises:
        CompileError: for calls that are neither splits nor in the table below, and for splits of the batch.
    """
    with showing(builder, name, args, kwargs):
        if is_split(name):
            return _pieces(builder, name.split(".")[1], args, results, later)
        spelling = _SPELLINGS.get(name)
        if spelling is None:
            raise CompileError(refusal(builder, name))
        return spelling(builder, *args, **kwargs)


def _pieces(
    builder: Builder, short: str, args: Sequence[Any], results: Sequence[torch.Tensor], later: Sequence[torch.Tensor]
) -> Results:
    """Return the pieces as slices, one after the other."""
    x, rank = args[0], len(builder.shape(args[0]))
    place = 1 if short == "unbind" else 2
    dim = (args[place] if len(args) > place else 0) % rank
    if isinstance(builder.shape(x)[dim], Batch):
        return _pieces_of_batch(builder, short, x, dim, [[piece.shape[dim] for piece in pieces] for pieces in (results, later)])
    pieces, start = list[fx.Node](), 0
    for result in results:
        width = 1 if short == "unbind" else int(result.shape[dim])
        piece = builder.emit("aten.slice.Tensor", x, dim, start, start + width, 1)
        pieces.append(builder.emit("aten.squeeze.dim", piece, dim) if short == "unbind" else piece)
        start += width
    return pieces


def _pieces_of_batch(builder: Builder, short: str, x: fx.Node, dim: int, sizes: Sequence[Sequence[int]]) -> Results:
    """Return the parts of torch.cat([x, y]), each as large as the batch. Raises `CompileError` for other pieces."""
    shape, count = builder.shape(x), len(sizes[0])
    size = shape[dim]
    multiple = size.multiple // count if isinstance(size, Batch) else 0
    if short == "unbind" or any(list(line) != [multiple * batch] * count for batch, line in zip(BATCHES, sizes, strict=True)):
        raise CompileError(
            Diagnostic(
                f"{short} cannot divide the batch dimension",
                source=builder.origin.source,
                help="treat all elements of the batch alike",
            )
        )
    apart = builder.emit("aten.reshape.default", x, [*shape[:dim], count, Batch(multiple), *shape[dim + 1 :]])
    slices = [builder.emit("aten.slice.Tensor", apart, dim, place, place + 1, 1) for place in range(count)]
    return [builder.emit("aten.squeeze.dim", piece, dim) for piece in slices]


def _batch_norm(b: Builder, x: Any, weight: Any, bias: Any, mean: Any, var: Any, momentum: float, eps: float) -> Results:
    return b.emit("aten.batch_norm.default", x, weight, bias, mean, var, False, momentum, eps, False), None, None


def _layer_norm(b: Builder, x: Any, shape: Any, weight: Any, bias: Any, eps: float) -> Results:
    return b.emit("aten.layer_norm.default", x, shape, weight, bias, eps, False), None, None


def _group_norm(b: Builder, x: Any, weight: Any, bias: Any, _n: Any, _c: Any, _hw: Any, groups: int, eps: float) -> Results:
    return b.emit("aten.group_norm.default", x, groups, weight, bias, eps, False), None, None


def _spread_and_mean(name: str) -> Callable[..., Results]:
    """Return the rule of var_mean or std_mean."""

    def emit(b: Builder, x: Any, dims: Any = None, *, correction: Any = None, keepdim: bool = False) -> Results:
        dims = list(range(len(b.shape(x)))) if dims is None else dims
        return b.emit(name, x, dims, correction=correction, keepdim=keepdim), b.emit("aten.mean.dim", x, dims, keepdim)

    return emit


def _max_pool(rank: int) -> Callable[..., Results]:
    return lambda b, x, kernel, stride, padding, dilation, ceil: (
        max_pool(b, x, kernel, stride, padding, dilation, ceil, rank), None
    )  # fmt: skip


def _adaptive_max_pool(b: Builder, x: Any, sizes: Any) -> Results:
    return adaptive_max(b, x, sizes), None


def _extreme(name: str) -> Callable[..., Results]:
    return lambda b, x, dim, keep: (b.emit(name, x, [dim], keep), None)


def _extremes(b: Builder, x: Any, *, dim: int | None = None, keepdim: bool = False) -> Results:
    dims = list(range(len(b.shape(x)))) if dim is None else [dim]
    return b.emit("aten.amin.default", x, dims, keepdim), b.emit("aten.amax.default", x, dims, keepdim)


def _dropout(b: Builder, x: Any, probability: float, train: bool | None) -> Results:
    if train and probability:
        raise CompileError(draws_numbers(b, "dropout in training mode"))
    return x, None


_SPELLINGS: dict[str, Callable[..., Results]] = {
    "aten._native_batch_norm_legit_no_training.default": _batch_norm,
    "aten.native_layer_norm.default": _layer_norm,
    "aten.native_group_norm.default": _group_norm,
    "aten.var_mean.correction": _spread_and_mean("aten.var.correction"),
    "aten.std_mean.correction": _spread_and_mean("aten.std.correction"),
    "aten.max_pool1d_with_indices.default": _max_pool(1),
    "aten.max_pool2d_with_indices.default": _max_pool(2),
    "aten.max_pool3d_with_indices.default": _max_pool(3),
    "aten.adaptive_max_pool1d.default": _adaptive_max_pool,
    "aten.adaptive_max_pool2d.default": _adaptive_max_pool,
    "aten.adaptive_max_pool3d.default": _adaptive_max_pool,
    "aten.max.dim": _extreme("aten.amax.default"),
    "aten.min.dim": _extreme("aten.amin.default"),
    "aten.aminmax.default": _extremes,
    "aten.native_dropout.default": _dropout,
}
