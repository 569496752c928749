"""Importers of ONNX operators that select entries along one axis, and of triangles of matrices."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.onnx.values import Call, Known, Value, imports
from hecompile.ir.graph import Batch, Dim, concrete_shape
from hecompile.ir.shapes import BATCHES

__all__ = ["inside"]


@imports("Slice")
def _slice(call: Call) -> Value:
    x = call.input(0)
    bounds = [call.known(call.input(index), "a bound") for index in (1, 2)]
    count = bounds[0].first.numel()
    axes = call.ints(call.maybe(3), "the axes") if call.maybe(3) is not None else list(range(count))
    steps = call.ints(call.maybe(4), "the steps") if call.maybe(4) is not None else [1] * count
    for place, (axis, step) in enumerate(zip(axes, steps, strict=True)):
        starts, ends = ([int(bound.first[place]), int(bound.second[place])] for bound in bounds)
        x = _cut(call, x, call.axis(x, axis), starts, ends, step)
    return x


def _cut(call: Call, x: Value, axis: int, starts: Sequence[int], ends: Sequence[int], step: int) -> Value:
    """Slice one axis from start to end, each given at both batch sizes."""
    size = call.shape(x)[axis]
    sizes = concrete_shape((size,), BATCHES[0]) + concrete_shape((size,), BATCHES[1])
    ranges = [range(own)[start:end:step] for start, end, own in zip(starts, ends, sizes, strict=True)]
    if all(places == range(own) for places, own in zip(ranges, sizes, strict=True)):
        return x
    if isinstance(x, Known):
        first, second = (
            side.index_select(axis, torch.tensor(list(places), dtype=torch.int64))
            for side, places in zip((x.first, x.second), ranges, strict=True)
        )
        return Known(first, second)
    if isinstance(size, Batch) or ranges[0] != ranges[1]:
        raise CompileError(Diagnostic("cannot slice the batch dimension", help="treat all elements of the batch alike"))
    places = ranges[0]
    if step > 0 and places:
        return call.emit("aten.slice.Tensor", x, axis, places.start, places.stop, step)
    return call.entries(x, axis, places)


def inside(call: Call, places: torch.Tensor, size: int) -> torch.Tensor:
    """Return indices counted from the front. Raises `CompileError` for those out of range."""
    if places.numel() and not -size <= int(places.min()) <= int(places.max()) < size:
        raise CompileError(f"{call.kind}: an index is out of range for {size} entries")
    return torch.where(places < 0, places + size, places).long()


@imports("Gather")
def _gather(call: Call) -> Value:
    x, index = call.input(0), call.input(1)
    shape, axis = call.shape(x), call.axis(x, call.attr("axis", 0))
    if isinstance(index, fx.Node):
        return _look_up(call, x, index, axis)
    if isinstance(x, Known):

        def pick(data: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
            flat = inside(call, places, data.shape[axis]).flatten()
            return data.index_select(axis, flat).reshape((*data.shape[:axis], *places.shape, *data.shape[axis + 1 :]))

        return call.both(pick, x, index)
    size = call.size(x, axis)
    if not index.fixed:
        raise CompileError(Diagnostic("Gather: the index depends on the batch", help="treat all elements of the batch alike"))
    places = inside(call, index.first, size)
    if places.dim() == 0:
        return call.emit("aten.select.int", x, axis, int(places))
    picked = call.entries(x, axis, places.flatten().tolist())
    return picked if places.dim() == 1 else call.reshape(picked, [*shape[:axis], *places.shape, *shape[axis + 1 :]])


def _look_up(call: Call, x: Value, index: fx.Node, axis: int) -> Value:
    """Look up rows of a constant table by a value. If it is along another axis of the table, the table is permuted."""
    table = call.known(x, "the table")
    shape = call.shape(table)
    if not table.fixed:
        raise CompileError(
            Diagnostic(
                "Gather with computed indices needs a table that does not grow with the batch", help="make the table constant"
            )
        )
    rest: list[Dim] = [*shape[:axis], *shape[axis + 1 :]]
    if len(shape) != 2 or axis:
        table = call.both(lambda data: data.movedim(axis, 0).reshape(data.shape[axis], -1).contiguous(), table)
    inner = call.shape(index)
    looked_up = call.reshape(call.emit("aten.embedding.default", table, index), [*inner, *rest])
    if not axis:
        return looked_up
    before = range(len(inner), len(inner) + axis)
    order = [*before, *range(len(inner)), *range(len(inner) + axis, len(inner) + len(rest))]
    return call.emit("aten.permute.default", looked_up, order)


@imports("Trilu")
def _triangle(call: Call) -> Value:
    """Return one side of the diagonal of matrices, with zeros on the other."""
    x = call.input(0)
    height, width = (call.size(x, len(call.shape(x)) - place) for place in (2, 1))
    offset = call.ints(call.maybe(1), "the diagonal")[0] if call.maybe(1) is not None else 0
    offset = max(-height, min(offset, width))
    ones = torch.ones(height, width, dtype=torch.bool)
    mask = ones.triu(offset) if call.attr("upper", 1) else ones.tril(offset)
    zero = torch.zeros((), dtype=x.first.dtype if isinstance(x, Known) else call.builder.fake(x)[0].dtype)
    return call.emit("aten.where.self", Known(mask, mask, "triangle"), x, Known(zero, zero, "zero"))
