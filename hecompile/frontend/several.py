"""Calls with several results, as calls with one each: pieces of a value, and norms that return their statistics too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.builder import Builder
from hecompile.ir.graph import Batch

__all__ = ["emit_several", "is_split"]

Results = Sequence[fx.Node | None]  # None where a result has no spelling of its own; to read it is an error
_SPLITS = ("chunk", "split", "split_with_sizes", "tensor_split", "unbind", "unsafe_split", "unsafe_chunk", "split_copy")


def is_split(name: str) -> bool:
    """Whether a call cuts a value into pieces."""
    return name.split(".")[1] in _SPLITS


def emit_several(builder: Builder, name: str, args: Sequence[Any], results: Sequence[Any]) -> Results:
    """One node per result of `name(*args)`; `results` are these at batch 2, without data.

    Raises:
        CompileError: for calls that are neither splits nor in the table below, and for splits of the batch.
    """
    if is_split(name):
        return _pieces(builder, name.split(".")[1], args, results)
    spelling = _SPELLINGS.get(name)
    if spelling is None:
        raise CompileError(
            Diagnostic(f"{name} is not supported", source=builder.origin.source, help="rewrite it with operations of docs/ops.md")
        )
    return spelling(builder, *args)


def _pieces(builder: Builder, short: str, args: Sequence[Any], results: Sequence[torch.Tensor]) -> Results:
    """Slices, one after the other."""
    x, rank = args[0], len(builder.shape(args[0]))
    place = 1 if short == "unbind" else 2
    dim = (args[place] if len(args) > place else 0) % rank
    if isinstance(builder.shape(x)[dim], Batch):
        raise CompileError(Diagnostic(f"{short} of the batch", source=builder.origin.source, help="treat all elements alike"))
    pieces, start = list[fx.Node](), 0
    for result in results:
        width = 1 if short == "unbind" else int(result.shape[dim])
        piece = builder.emit("aten.slice.Tensor", x, dim, start, start + width, 1)
        pieces.append(builder.emit("aten.squeeze.dim", piece, dim) if short == "unbind" else piece)
        start += width
    return pieces


def _batch_norm(b: Builder, x: Any, weight: Any, bias: Any, mean: Any, var: Any, momentum: float, eps: float) -> Results:
    return b.emit("aten.batch_norm.default", x, weight, bias, mean, var, False, momentum, eps, False), None, None


def _layer_norm(b: Builder, x: Any, shape: Any, weight: Any, bias: Any, eps: float) -> Results:
    return b.emit("aten.layer_norm.default", x, shape, weight, bias, eps, False), None, None


def _group_norm(b: Builder, x: Any, weight: Any, bias: Any, _n: Any, _c: Any, _hw: Any, groups: int, eps: float) -> Results:
    return b.emit("aten.group_norm.default", x, groups, weight, bias, eps, False), None, None


def _var_mean(b: Builder, x: Any, dims: Any, correction: Any, keep: bool) -> Results:
    dims = list(range(len(b.shape(x)))) if dims is None else dims
    return b.emit("aten.var.correction", x, dims, correction=correction, keepdim=keep), b.emit("aten.mean.dim", x, dims, keep)


def _max_pool(b: Builder, x: Any, *sizes: Any) -> Results:
    return b.emit("aten.max_pool2d.default", x, *sizes), None


def _extreme(name: str) -> Callable[..., Results]:
    return lambda b, x, dim, keep: (b.emit(name, x, [dim], keep), None)


_SPELLINGS: dict[str, Callable[..., Results]] = {
    "aten._native_batch_norm_legit_no_training.default": _batch_norm,
    "aten.native_layer_norm.default": _layer_norm,
    "aten.native_group_norm.default": _group_norm,
    "aten.var_mean.correction": _var_mean,
    "aten.max_pool2d_with_indices.default": _max_pool,
    "aten.max.dim": _extreme("aten.amax.default"),
    "aten.min.dim": _extreme("aten.amin.default"),
}
