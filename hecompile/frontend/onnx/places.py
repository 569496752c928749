"""Importers of ONNX operators that read or write entries at indices along several axes.

Indices into a computed value must be constant, and the same for every element of the batch. The value's entries are merged into one
axis, from which entries are selected; entries to write are appended behind them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.onnx.batch import fixed_batch
from hecompile.frontend.onnx.indexing import inside
from hecompile.frontend.onnx.values import Call, Known, Value, imports
from hecompile.ir.graph import Batch, Dim

__all__: list[str] = []  # importers register themselves

_ALIKE = "use the same constant indices for every element of the batch"


def _places(call: Call) -> Known:
    return call.known(call.input(1), "where it reads or writes")


def _batch_of(call: Call, x: Value) -> list[Dim]:
    """Return the first size in a list if it is the batch; an empty list otherwise."""
    return [size for size in call.shape(x)[:1] if isinstance(size, Batch)]


def _of_one(call: Call, x: Value, places: Known, counted: bool) -> torch.Tensor:
    """Return the indices of one element of the batch. Where they are `counted`, the first number of each index is the element's
    own."""
    if call.shape(places)[:1] != call.shape(x)[:1]:
        raise fixed_batch(call, f"its places, of size {'x'.join(map(str, call.shape(places)))},")
    own = []
    for side in (places.first, places.second):
        inner = side[..., 1:] if counted else side
        elements = torch.arange(len(side)).reshape(-1, *[1] * (side.dim() - 2))
        if (counted and not bool((side[..., 0] == elements).all())) or not bool((inner == inner[:1]).all()):
            raise CompileError(Diagnostic(f"{call.kind} with indices that differ within the batch is not supported", help=_ALIKE))
        own.append(inner[0])
    if not torch.equal(*own):
        raise CompileError(Diagnostic(f"{call.kind} with indices that depend on the batch size is not supported", help=_ALIKE))
    return own[0]


def _in_a_row(call: Call, places: torch.Tensor, sizes: Sequence[int]) -> list[int]:
    """Return indices with one number per axis as indices into the axes of these sizes, merged into one."""
    row = torch.zeros(places.shape[:-1], dtype=torch.int64)
    for axis, size in enumerate(sizes):
        row = row * size + inside(call, places[..., axis], size)
    return [int(place) for place in row.flatten()]


def _along(places: torch.Tensor, axis: int) -> torch.Tensor:
    """Return indices along one axis, extended by their position in every other axis."""
    grid = torch.meshgrid(*(torch.arange(size) for size in places.shape), indexing="ij")
    return torch.stack([places if place == axis else numbers for place, numbers in enumerate(grid)], dim=-1)


def _written(call: Call, data: Value, entries: Value, row: Sequence[int], front: Sequence[Dim], sizes: Sequence[int]) -> Value:
    """Return the data with entries written to indices of its axes behind `front`, which are merged into one."""
    shape, count = call.shape(data), math.prod(sizes)
    rest = shape[len(front) + len(sizes) :]
    order = list(range(count))
    for number, place in enumerate(row):
        order[place] = count + number
    parts = [call.reshape(data, [*front, count, *rest]), call.reshape(entries, [*front, len(row), *rest])]
    return call.reshape(call.entries(call.emit("aten.cat.default", parts, len(front)), len(front), order), shape)


def _inner(call: Call, x: Value, front: Sequence[Dim], depth: int) -> list[int]:
    return [call.size(x, axis) for axis in range(len(front), len(front) + depth)]


def _plain(call: Call) -> None:
    if call.text("reduction", "none") != "none":
        raise CompileError(Diagnostic(f"{call.kind} with a reduction is not supported", help="add the parts instead"))


@imports("GatherElements")
def _gather_elements(call: Call) -> Value:
    x, places = call.input(0), _places(call)
    axis = call.axis(x, call.attr("axis", 0))
    if isinstance(x, Known):
        return call.both(lambda data, where: data.gather(axis, inside(call, where, data.shape[axis])), x, places)
    front = _batch_of(call, x)
    own = _of_one(call, call.input(0), places, counted=False) if front else _fixed(call, places)
    sizes = _inner(call, x, front, own.dim())
    if axis < len(front):
        raise CompileError(Diagnostic("GatherElements cannot index the batch dimension", help=_ALIKE))
    flat = call.reshape(x, [*front, math.prod(sizes)])
    picked = call.entries(flat, len(front), _in_a_row(call, _along(own, axis - len(front)), sizes))
    return call.reshape(picked, [*front, *own.shape])


@imports("ScatterElements")
def _scatter_elements(call: Call) -> Value:
    data, places, entries = call.input(0), _places(call), call.input(2)
    axis = call.axis(data, call.attr("axis", 0))
    _plain(call)
    if isinstance(data, Known) and isinstance(entries, Known):
        return call.both(lambda x, where, what: x.scatter(axis, inside(call, where, x.shape[axis]), what), data, places, entries)
    front = _batch_of(call, data)
    own = _of_one(call, call.input(0), places, counted=False) if front else _fixed(call, places)
    if axis < len(front):
        raise CompileError(Diagnostic("ScatterElements cannot index the batch dimension", help=_ALIKE))
    sizes = _inner(call, data, front, own.dim())
    return _written(call, data, entries, _in_a_row(call, _along(own, axis - len(front)), sizes), front, sizes)


@imports("GatherND")
def _gather_nd(call: Call) -> Value:
    x, places, shared = call.input(0), _places(call), call.attr("batch_dims", 0)
    if isinstance(x, Known):
        return call.both(lambda data, where: _picked(call, data, where, shared), x, places)
    front = _batch_of(call, x)
    if shared > len(front):
        raise CompileError(Diagnostic(f"GatherND with {shared} batch dimensions is not supported", help="use at most one"))
    own = _of_one(call, call.input(0), places, counted=not shared) if front else _fixed(call, places)
    sizes = _inner(call, x, front, own.shape[-1])
    rest = call.shape(x)[len(front) + len(sizes) :]
    flat = call.reshape(x, [*front, math.prod(sizes), *rest])
    picked = call.entries(flat, len(front), _in_a_row(call, own, sizes))
    return call.reshape(picked, [*front, *own.shape[:-1], *rest])


def _picked(call: Call, data: torch.Tensor, places: torch.Tensor, shared: int) -> torch.Tensor:
    """Select from a constant, whose first dimensions may be shared with the indices."""
    rows = [torch.arange(size).reshape(-1, *[1] * (places.dim() - 2 - axis)) for axis, size in enumerate(data.shape[:shared])]
    inner = [inside(call, places[..., place], data.shape[shared + place]) for place in range(places.shape[-1])]
    return data[(*rows, *inner)]


@imports("ScatterND")
def _scatter_nd(call: Call) -> Value:
    data, places, entries = call.input(0), _places(call), call.input(2)
    _plain(call)
    if isinstance(data, Known) and isinstance(entries, Known):

        def put(x: torch.Tensor, where: torch.Tensor, what: torch.Tensor) -> torch.Tensor:
            return x.index_put([inside(call, part, size) for part, size in zip(where.unbind(-1), x.shape, strict=False)], what)

        return call.both(put, data, places, entries)
    front = _batch_of(call, data)
    own = _of_one(call, call.input(0), places, counted=True) if front else _fixed(call, places)
    sizes = _inner(call, data, front, own.shape[-1])
    return _written(call, data, entries, _in_a_row(call, own, sizes), front, sizes)


def _fixed(call: Call, places: Known) -> torch.Tensor:
    """Return indices into a value without a batch in front."""
    if not places.fixed:
        raise CompileError(Diagnostic(f"{call.kind} with indices that depend on the batch size is not supported", help=_ALIKE))
    return places.first
