"""Calls whose sizes grow with the batch, said without numbers: as -1, or by the shape of another value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.builder import Builder
from hecompile.ir.graph import Batch, Dim
from hecompile.ir.shapes import has_batch

__all__ = ["emit_sized", "expand_to"]

_VIEWS = ("aten.view.default", "aten.reshape.default", "aten._unsafe_view.default")
_FILLS = {"aten.full.default": None, "aten.ones.default": 1.0, "aten.zeros.default": 0.0}
_NEW = {"aten.new_ones.default": 1.0, "aten.new_zeros.default": 0.0, "aten.new_full.default": None}


def emit_sized(builder: Builder, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> fx.Node:
    """`name(*args)` where a size among the arguments is a `Batch`.

    Raises:
        CompileError: for calls other than views, expansions and fills.
    """
    if name in _VIEWS:
        return builder.emit("aten.reshape.default", args[0], list(args[1]))
    if name == "aten.expand.default":
        return expand_to(builder, args[0], args[1])
    if name == "aten.repeat.default":
        return _repeat(builder, args[0], args[1])
    if name in _FILLS or name in _NEW:
        sizes = args[0] if name in _FILLS else args[1]
        fill = (_FILLS | _NEW)[name]
        value = fill if fill is not None else args[-1]
        dtype = kwargs.get("dtype") or (torch.float32 if isinstance(value, float) else torch.int64)
        ones = [1 if isinstance(size, Batch) else size for size in sizes]
        return expand_to(builder, builder.constant(torch.full(ones, value, dtype=dtype), "full"), sizes)
    raise CompileError(
        Diagnostic(
            f"{name} makes a tensor whose size depends on the batch",
            source=builder.origin.source,
            help="compute it from a tensor that has the batch as its first dimension",
        )
    )


def expand_to(builder: Builder, x: fx.Node, sizes: Sequence[Dim]) -> fx.Node:
    """Broadcast to sizes with a batch in them."""
    own = builder.shape(x)
    padded = (None,) * (len(sizes) - len(own)) + own
    wanted = [before if size == -1 and before is not None else size for size, before in zip(sizes, padded, strict=True)]
    if all(not isinstance(size, Batch) or size == before for size, before in zip(wanted, padded, strict=True)):
        return builder.emit("aten.expand.default", x, wanted)
    return builder.emit("aten.expand_as.default", x, _like(builder, wanted))


def _like(builder: Builder, sizes: Sequence[Dim]) -> fx.Node:
    """A value of this shape. Its entries mean nothing: only the shape is read."""
    batched = [spec for spec in builder.inputs if has_batch(spec.shape)]
    places = [place for place, size in enumerate(sizes) if isinstance(size, Batch)]
    if not batched or len(places) != 1 or batched[0].shape[0] != sizes[places[0]]:
        raise CompileError(
            Diagnostic(f"no input has the batch of a tensor of sizes {tuple(map(str, sizes))}", source=builder.origin.source)
        )
    node = next(node for node in builder.graph.nodes if node.op == "placeholder" and node.name == batched[0].name)
    for dim in range(1, len(batched[0].shape)):
        node = builder.emit("aten.slice.Tensor", node, dim, 0, 1, 1)
    ones: list[Dim] = [1] * len(sizes)
    ones[places[0]] = sizes[places[0]]
    node = builder.emit("aten.reshape.default", node, ones)
    return builder.emit("aten.expand.default", node, list(sizes))


def _repeat(builder: Builder, x: fx.Node, times: Sequence[Dim]) -> fx.Node:
    """A repeat by the batch of a dimension of one is an expansion; by one, nothing."""
    own = builder.shape(x)
    padded = (1,) * (len(times) - len(own)) + own
    sizes: list[Dim] = []
    for count, size in zip(times, padded, strict=True):
        if isinstance(count, Batch) and size == 1:
            sizes.append(count)
        elif count == 1:
            sizes.append(size)
        else:
            raise CompileError(Diagnostic("repeat by the batch beside another repeat", source=builder.origin.source))
    return expand_to(builder, x, sizes)
