"""Canonical spellings of calls that move entries: rolls, paddings, parts written in place (see `rewrites`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.builder import Builder
from hecompile.frontend.rewrites import cast, reshape, rule
from hecompile.ir.graph import Batch, info
from hecompile.ir.ops import PLACES
from hecompile.ir.shapes import dtype_named

__all__ = ["entries"]


def _cut(b: Builder, x: fx.Node, dim: int, start: int, end: int) -> list[fx.Node]:
    """The entries from `start` to `end` along `dim`; no node if there are none."""
    return [b.emit("aten.slice.Tensor", x, dim, start, end, 1)] if end > start else []


def _size(b: Builder, x: fx.Node, dim: int) -> int:
    size = b.shape(x)[dim]
    if isinstance(size, Batch):
        raise CompileError(Diagnostic("a move along the batch", source=b.origin.source, help="treat all elements alike"))
    return size


def entries(b: Builder, x: fx.Node, dim: int, places: Sequence[int]) -> fx.Node:
    """Entries of x along `dim` by constant places, of which there may be any number, in any order: a slice where they follow each
    other. Raises `CompileError` along the batch."""
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
    known = b.value(places)
    if known is None:
        raise CompileError(
            Diagnostic("entries by places that are computed", source=b.origin.source, help="make the places constant")
        )
    return entries(b, x, dim, [int(place) for place in known.flatten()])


@rule("roll.default")
def _roll(b: Builder, x: fx.Node, shifts: Sequence[int], dims: Sequence[int] = ()) -> fx.Node:
    if not dims:
        raise CompileError(Diagnostic("a roll over all entries", source=b.origin.source, help="name the dimensions"))
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
    """x[start:end] = part."""
    dim %= len(b.shape(x))
    if isinstance(b.shape(x)[dim], Batch) and b.shape(x) == b.shape(part):
        return part
    size = _size(b, x, dim)
    first, last, step = slice(start, end, step).indices(size)
    if step != 1:
        raise CompileError(Diagnostic("a write to every other entry", source=b.origin.source, help="stack and reshape instead"))
    pieces = [*_cut(b, x, dim, 0, first), part, *_cut(b, x, dim, last, size)]
    return part if len(pieces) == 1 else b.emit("aten.cat.default", pieces, dim)


@rule("select_scatter.default")
def _select_scatter(b: Builder, x: fx.Node, part: fx.Node, dim: int, index: int) -> fx.Node:
    """x[index] = part."""
    dim %= len(b.shape(x))
    index %= _size(b, x, dim)
    shape = b.shape(part)
    return _slice_scatter(b, x, reshape(b, part, (*shape[:dim], 1, *shape[dim:])), dim, index, index + 1)


@rule("copy.default")
def _copy(b: Builder, x: fx.Node, source: fx.Node, *_: Any) -> fx.Node:
    """x[...] = source: its values, broadcast to x."""
    source = cast(b, source, dtype_named(info(x).dtype))
    return source if b.shape(source) == b.shape(x) else b.emit("aten.expand_as.default", source, x)


@rule("pad.default")
def _pad(b: Builder, x: fx.Node, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> fx.Node:
    names = {"constant": "constant_pad_nd", "reflect": "reflection_pad2d", "replicate": "replication_pad2d"}
    if mode == "circular":
        return _circular(b, x, pad)
    if mode not in names:
        known = ", ".join((*names, "circular"))
        raise CompileError(Diagnostic(f"padding mode '{mode}'", source=b.origin.source, help=f"use one of {known}"))
    if mode == "constant":
        return b.emit("aten.constant_pad_nd.default", x, list(pad), value or 0.0)
    return b.emit(f"aten.{names[mode]}.default", x, list(pad))


def _circular(b: Builder, x: fx.Node, pad: Sequence[int]) -> fx.Node:
    """Each side continues with the entries of the other; pairs count from the last dimension."""
    for place in range(len(pad) // 2):
        dim, before, after = len(b.shape(x)) - 1 - place, pad[2 * place], pad[2 * place + 1]
        size = _size(b, x, dim)
        if before or after:
            x = b.emit("aten.cat.default", [*_cut(b, x, dim, size - before, size), x, *_cut(b, x, dim, 0, after)], dim)
    return x
