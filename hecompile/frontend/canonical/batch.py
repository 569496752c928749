"""Applies layers to values whose batch is not the first dimension: moves the batch to the front for the layer, and back (see
`rewrites`)."""

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
    """Return layer(x) for a layer that acts on the last `behind` dimensions, after moving the batch to the front where it is not
    there.

    Such a layer treats all dimensions in front alike and keeps them, so moving these and applying the layer can be exchanged.
    Layers that act on one dimension accept any number of dimensions in front, others only one.

    Tokens that stand before the batch, (L, B, E), become (B, L, E) for the layer; so do rows (L B, E) that were made from such.
    """
    leading = b.shape(x)[: len(b.shape(x)) - behind]
    places = [place for place, size in enumerate(leading) if isinstance(size, Batch)]
    if len(places) != 1:
        return layer(x)
    if places[0] > 0:
        return _turned(b, x, places[0], layer)
    return _rows(b, x, behind, layer)


def _turned(b: Builder, x: fx.Node, place: int, layer: Layer) -> fx.Node:
    """Move the batch from dimension `place` to the front, apply the layer, and move it back."""
    order = [place, *(dim for dim in range(len(b.shape(x))) if dim != place)]
    result = layer(permute(b, x, order))
    back = [*range(1, place + 1), 0, *range(place + 1, len(b.shape(result)))]
    return permute(b, result, back)


def _rows(b: Builder, x: fx.Node, behind: int, layer: Layer) -> fx.Node:
    """Apply the layer to rows that merge several dimensions, of which the batch is not the first: separate them, and merge them
    again."""
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
    """Return how many of the first dimensions of a shape together have the size `first`; 0 if none do."""
    count = 1
    grows = False
    for place, size in enumerate(shape):
        count *= size.multiple if isinstance(size, Batch) else size
        grows |= isinstance(size, Batch)
        if isinstance(first, Batch) and grows and count == first.multiple:
            return place + 1
    return 0
