"""Layers on values whose batch is not their first dimension: turned so that the layer reads the batch in front (see `rewrites`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import fx

from hecompile.frontend.canonical.rewrites import OPS_RESHAPE, permute, reshape
from hecompile.ir.builder import Builder
from hecompile.ir.graph import Batch, Dim

__all__ = ["in_front"]

Layer = Callable[[fx.Node], fx.Node]


def in_front(b: Builder, x: fx.Node, behind: int, layer: Layer) -> fx.Node:
    """layer(x), for a layer of the last `behind` dimensions: it treats what stands before them alike and keeps it, so it commutes
    with turning that. Layers of one dimension take any number before it, others only one.

    Tokens that stand before the batch, (L, B, E), become (B, L, E) for the layer; so do rows (L B, E) that are made of such.
    """
    leading = b.shape(x)[: len(b.shape(x)) - behind]
    places = [place for place, size in enumerate(leading) if isinstance(size, Batch)]
    if len(places) != 1:
        return layer(x)
    if places[0] > 0:
        return _turned(b, x, places[0], layer)
    return _rows(b, x, behind, layer)


def _turned(b: Builder, x: fx.Node, place: int, layer: Layer) -> fx.Node:
    """The batch from `place` to the front for the layer, and back."""
    order = [place, *(dim for dim in range(len(b.shape(x))) if dim != place)]
    result = layer(permute(b, x, order))
    back = [*range(1, place + 1), 0, *range(place + 1, len(b.shape(result)))]
    return permute(b, result, back)


def _rows(b: Builder, x: fx.Node, behind: int, layer: Layer) -> fx.Node:
    """Rows that are several dimensions seen as one, the batch not first among them: taken apart for the layer, and put together."""
    own: tuple[Dim, ...] = b.shape(x)
    inner: Any = x.args[0] if str(x.target) == OPS_RESHAPE else x
    shape = b.shape(inner)
    count = _merged(shape, own[0])
    if count < 2 or isinstance(shape[0], Batch):
        return layer(x)
    place = next(place for place, size in enumerate(shape) if isinstance(size, Batch))
    order = [place, *(dim for dim in range(len(shape)) if dim != place)]
    others = [int(str(size)) for other, size in enumerate(shape[:count]) if other != place]
    rows: tuple[Dim, ...] = (shape[place], math.prod(others)) if behind == 1 else own[:1]
    result = layer(reshape(b, permute(b, inner, order), (*rows, *own[1:])))
    rest = b.shape(result)[len(rows) :]
    result = reshape(b, result, (shape[place], *others, *rest))
    back = [*range(1, place + 1), 0, *range(place + 1, count + len(rest))]
    return reshape(b, permute(b, result, back), (own[0], *rest))


def _merged(shape: tuple[Dim, ...], first: Dim) -> int:
    """How many of the first dimensions of a shape make up one of size `first`; 0 if none do."""
    count = 1
    grows = False
    for place, size in enumerate(shape):
        count *= size.multiple if isinstance(size, Batch) else size
        grows |= isinstance(size, Batch)
        if isinstance(first, Batch) and grows and count == first.multiple:
            return place + 1
    return 0
