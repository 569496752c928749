"""Importers of ONNX operators along whole axes: softmax, sums, extremes, running sums."""

from __future__ import annotations

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.onnx.values import Call, Value, imports
from hecompile.ir.graph import Batch

__all__: list[str] = []  # importers register themselves

_SUM, _MAX = "aten.sum.dim_IntList", "aten.amax.default"
_REDUCTIONS = {
    "ReduceMean": "aten.mean.dim", "ReduceSum": _SUM, "ReduceMax": _MAX, "ReduceMin": "aten.amin.default", "ReduceL1": _SUM,
    "ReduceL2": _SUM, "ReduceSumSquare": _SUM, "ReduceLogSum": _SUM,
}  # fmt: skip


def _over_batch(call: Call) -> CompileError:
    return CompileError(Diagnostic(f"{call.kind} cannot reduce over the batch dimension", help="reduce the other dimensions only"))


@imports("Softmax", "LogSoftmax")
def _softmax(call: Call) -> Value:
    x = call.input(0)
    axis = call.axis(x, call.attr("axis", -1))
    if isinstance(call.shape(x)[axis], Batch):
        raise _over_batch(call)
    return call.emit("aten.softmax.int" if call.kind == "Softmax" else "aten.log_softmax.int", x, axis)


def _dims(call: Call, x: Value) -> list[int] | None:
    """Return the axes to reduce; None if the operator has no axes, and that means nothing is reduced."""
    axes, shape = call.axes(1), call.shape(x)
    if not axes and call.attr("noop_with_empty_axes", 0):
        return None
    dims = sorted({call.axis(x, axis) for axis in axes}) if axes else list(range(len(shape)))
    if isinstance(x, fx.Node) and any(isinstance(shape[dim], Batch) for dim in dims):
        raise _over_batch(call)
    return dims


@imports(*_REDUCTIONS)
def _reduce(call: Call) -> Value:
    x = call.input(0)
    dims, keep = _dims(call, x), bool(call.attr("keepdims", 1))
    if call.kind in ("ReduceL2", "ReduceSumSquare"):
        x = call.emit("aten.mul.Tensor", x, x)
    if call.kind == "ReduceL1":
        x = call.emit("aten.abs.default", x)
    result = x if dims is None else call.emit(_REDUCTIONS[call.kind], x, dims, keep)
    if call.kind == "ReduceL2":
        return call.emit("aten.sqrt.default", result)
    return call.emit("aten.log.default", result) if call.kind == "ReduceLogSum" else result


@imports("ReduceLogSumExp")
def _log_sum_exp(call: Call) -> Value:
    """Rewrite as m + log(sum(exp(x - m))) with m the largest entry, so that nothing overflows."""
    x = call.input(0)
    dims, keep = _dims(call, x), bool(call.attr("keepdims", 1))
    if dims is None:
        return x
    largest = call.emit(_MAX, x, dims, True)
    total = call.emit(_SUM, call.emit("aten.exp.default", call.emit("aten.sub.Tensor", x, largest)), dims, keep)
    kept = largest if keep else call.reshape(largest, call.shape(total))
    return call.emit("aten.add.Tensor", call.emit("aten.log.default", total), kept)


@imports("ReduceProd")
def _product(call: Call) -> Value:
    """Compute a product of sizes. A product of a value's entries is not supported."""
    axes, keep = call.axes(1), bool(call.attr("keepdims", 1))

    def product(x: torch.Tensor) -> torch.Tensor:
        for axis in sorted((axis % x.dim() for axis in axes or range(x.dim())), reverse=True):
            x = x.prod(axis, keepdim=keep)
        return x

    return call.both(product, call.known(call.input(0), "a product of entries"))


@imports("CumSum")
def _running_sum(call: Call) -> Value:
    """Compute sums over 2, 4, 8 ... entries, each from two sums of half as many."""
    x, axis = call.input(0), call.axis(call.input(0), call.ints(call.input(1), "the axis")[0])
    size = call.size(x, axis)
    backwards = list(range(size))[::-1]
    x = call.entries(x, axis, backwards) if call.attr("reverse", 0) else x
    x = _moved(call, x, axis, 1) if call.attr("exclusive", 0) else x
    reach = 1
    while reach < size:
        x = call.emit("aten.add.Tensor", x, _moved(call, x, axis, reach))
        reach *= 2
    return call.entries(x, axis, backwards) if call.attr("reverse", 0) else x


def _moved(call: Call, x: Value, axis: int, by: int) -> Value:
    """Return the entries moved backwards by `by`, with zeros in front."""
    kept = call.emit("aten.slice.Tensor", x, axis, 0, call.size(x, axis) - by, 1)
    return call.emit("aten.constant_pad_nd.default", kept, [0, 0] * (len(call.shape(x)) - 1 - axis) + [by, 0], 0.0)
