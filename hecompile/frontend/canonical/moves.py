"""Rules for moves of entries along one dimension: indexing by constants, flips, rolls, and writes to a part (see `rewrites`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.canonical.rewrites import cast, reshape, rule
from hecompile.ir.builder import Builder
from hecompile.ir.graph import Batch, info
from hecompile.ir.ops import PLACES
from hecompile.ir.shapes import dtype_named

__all__ = ["computed_places", "entries", "looked_up", "written"]


def _cut(b: Builder, x: fx.Node, dim: int, start: int, end: int) -> list[fx.Node]:
    """Return the entries from `start` to `end` along `dim` as a list of one node, or of none if there are no entries."""
    return [b.emit("aten.slice.Tensor", x, dim, start, end, 1)] if end > start else []


def _size(b: Builder, x: fx.Node, dim: int) -> int:
    size = b.shape(x)[dim]
    if isinstance(size, Batch):
        raise CompileError(
            Diagnostic(
                "cannot move entries along the batch dimension",
                source=b.origin.source,
                help="treat all elements of the batch alike",
            )
        )
    return size


def entries(b: Builder, x: fx.Node, dim: int, places: Sequence[int]) -> fx.Node:
    """Return entries of x along `dim` at constant indices, in any number and order; consecutive ones become a slice. Raises
    `CompileError` along the batch."""
    dim %= len(b.shape(x))
    size, places = _size(b, x, dim), list(places)
    if places == list(range(size)):
        return x
    step = places[1] - places[0] if len(places) > 1 else 1
    if places and step > 0 and places == list(range(places[0], places[-1] + 1, step)):
        return b.emit("aten.slice.Tensor", x, dim, places[0], places[-1] + 1, step)
    return b.emit(PLACES, x, dim, b.constant(torch.tensor(places, dtype=torch.int64), "places"))


@rule("flip.default")
def _flip(b: Builder, x: fx.Node, dims: Sequence[int]) -> fx.Node:
    for dim in dims:
        x = entries(b, x, dim, range(_size(b, x, dim))[::-1])
    return x


@rule("index_select.default")
def _index_select(b: Builder, x: fx.Node, dim: int, places: fx.Node) -> fx.Node:
    known, dim = b.value(places), dim % len(b.shape(x))
    if known is None and b.value(x) is not None and dim == 0:
        return looked_up(b, x, places)
    if known is None:
        raise CompileError(computed_places(b))
    return entries(b, x, dim, [int(place) for place in known.flatten()])


def looked_up(b: Builder, table: fx.Node, places: fx.Node) -> fx.Node:
    """Return table[places] for a constant table and computed indices: a lookup of rows, as in an embedding."""
    shape = b.shape(table)
    rows = reshape(b, table, (shape[0], math.prod(shape[1:])))  # type: ignore[arg-type]
    return reshape(b, b.emit("aten.embedding.default", rows, places), (*b.shape(places), *shape[1:]))


def computed_places(b: Builder) -> Diagnostic:
    """Return the error for indices that are not constant."""
    return Diagnostic(
        "indices that are computed from values are not supported",
        source=b.origin.source,
        help="make the indices a constant (a list, a buffer), or use torch.where or a product with a mask",
    )


@rule("roll.default")
def _roll(b: Builder, x: fx.Node, shifts: Sequence[int], dims: Sequence[int] = ()) -> fx.Node:
    if not dims:
        help_text = "name the dimensions: x.roll(shifts, dims)"
        raise CompileError(Diagnostic("roll without dimensions is not supported", source=b.origin.source, help=help_text))
    for shift, dim in zip(shifts, dims, strict=True):
        dim %= len(b.shape(x))
        size = _size(b, x, dim)
        cut = -shift % size
        if cut:
            x = b.emit("aten.cat.default", [*_cut(b, x, dim, cut, size), *_cut(b, x, dim, 0, cut)], dim)
    return x


@rule("slice_scatter.default")
def _slice_scatter(
    b: Builder, x: fx.Node, part: fx.Node, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> fx.Node:
    """Rewrite x[start:end] = part."""
    dim %= len(b.shape(x))
    if isinstance(b.shape(x)[dim], Batch) and b.shape(x) == b.shape(part):
        return cast(b, part, dtype_named(info(x).dtype))
    size = _size(b, x, dim)
    return written(b, x, dim, range(*slice(start, end, step).indices(size)), part)


def written(b: Builder, x: fx.Node, dim: int, places: Sequence[int], part: fx.Node) -> fx.Node:
    """Return x with the entries of `part` written to constant indices along `dim`; of two writes to one index, the last one
    counts."""
    part = cast(b, part, dtype_named(info(x).dtype))
    size, places = _size(b, x, dim), list(places)
    if not places:
        return x
    first, last = places[0], places[-1] + 1
    if places == list(range(first, last)):
        pieces = [*_cut(b, x, dim, 0, first), part, *_cut(b, x, dim, last, size)]
        return part if len(pieces) == 1 else b.emit("aten.cat.default", pieces, dim)
    source = {place: number for number, place in enumerate(places)}
    if len(source) == size:
        return entries(b, part, dim, [source[place] for place in range(size)])
    both = b.emit("aten.cat.default", [x, part], dim)
    return entries(b, both, dim, [size + source[place] if place in source else place for place in range(size)])


@rule("select_scatter.default")
def _select_scatter(b: Builder, x: fx.Node, part: fx.Node, dim: int, index: int) -> fx.Node:
    """Rewrite x[index] = part."""
    dim %= len(b.shape(x))
    index %= _size(b, x, dim)
    shape = b.shape(part)
    return _slice_scatter(b, x, reshape(b, part, (*shape[:dim], 1, *shape[dim:])), dim, index, index + 1)


@rule("copy.default")
def _copy(b: Builder, x: fx.Node, source: fx.Node, *_: Any) -> fx.Node:
    """Rewrite x[...] = source, broadcast to the shape of x."""
    source = cast(b, source, dtype_named(info(x).dtype))
    return source if b.shape(source) == b.shape(x) else b.emit("aten.expand_as.default", source, x)
