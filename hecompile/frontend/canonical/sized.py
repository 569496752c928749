"""Rewrites calls whose sizes grow with the batch without naming numbers: by -1, or by the shape of another value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.canonical.filled import FILLS, full
from hecompile.frontend.canonical.refusals import showing, sized_refusal
from hecompile.frontend.canonical.rewrites import together
from hecompile.ir.builder import Builder
from hecompile.ir.graph import Batch, Dim, info
from hecompile.ir.shapes import dtype_named, has_batch

__all__ = ["emit_sized", "expand_to"]

_VIEWS = ("aten.view.default", "aten.reshape.default", "aten._unsafe_view.default", "aten.view_copy.default")
_EXPANSIONS = ("aten.expand.default", "aten.expand_copy.default", "aten.broadcast_to.default")
_EMPTY = ("aten.empty.memory_format", "aten.empty_permuted.default", "aten.empty_strided.default")
_FILLS = {f"aten.{name}.default": fill for name, fill in FILLS.items()} | dict.fromkeys(_EMPTY, 0.0)
_NEW = {f"aten.new_{name}.default": fill for name, fill in FILLS.items()} | {"aten.new_empty_strided.default": 0.0}


def emit_sized(builder: Builder, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> fx.Node:
    """Emit `name(*args)` where a size among the arguments is a `Batch`.

    Raises:
        CompileError: for calls other than views, expansions and fills.
    """
    with showing(builder, name, args, kwargs):
        if name in _VIEWS:
            return builder.emit("aten.reshape.default", args[0], list(args[1]))
        if name in _EXPANSIONS:
            return expand_to(builder, args[0], args[1])
        if name == "aten.slice.Tensor" and _is_whole(builder, *args):
            return builder.emit(name, args[0], args[1], 0, None, 1)
        if name == "aten.repeat.default":
            return _repeat(builder, args[0], args[1])
        if name in _FILLS:
            return _filled(builder, args[0], _FILLS[name], args[-1], kwargs.get("dtype"))
        if name in _NEW:
            return _filled(builder, args[1], _NEW[name], args[-1], kwargs.get("dtype") or dtype_named(info(args[0]).dtype))
        raise CompileError(sized_refusal(builder, name))


def _is_whole(builder: Builder, x: fx.Node, dim: int, start: Any, end: Any, step: int) -> bool:
    """Return whether a slice up to a size that grows with the batch contains everything."""
    return start in (0, None) and step == 1 and end == builder.shape(x)[dim]


def _filled(builder: Builder, sizes: Sequence[Dim], fill: float | None, given: Any, dtype: torch.dtype | None) -> fx.Node:
    """Return a tensor filled with a number: a constant that is expanded."""
    if isinstance(given, fx.Node | Batch):
        raise CompileError(sized_refusal(builder, "aten.fill.Tensor"))
    ones = [1 if isinstance(size, Batch) else size for size in sizes]
    return expand_to(builder, builder.constant(full(ones, given if fill is None else fill, dtype), "full"), sizes)


def expand_to(builder: Builder, x: fx.Node, sizes: Sequence[Dim]) -> fx.Node:
    """Broadcast to sizes of which one grows with the batch."""
    own = builder.shape(x)
    padded = (None,) * (len(sizes) - len(own)) + own
    wanted = [before if size == -1 and before is not None else size for size, before in zip(sizes, padded, strict=True)]
    if all(not isinstance(size, Batch) or size == before for size, before in zip(wanted, padded, strict=True)):
        return builder.emit("aten.expand.default", x, wanted)
    return builder.emit("aten.expand_as.default", x, _like(builder, wanted))


def _like(builder: Builder, sizes: Sequence[Dim]) -> fx.Node:
    """Return a value of this shape. Only its shape is read, its entries are not."""
    batched = [spec for spec in builder.inputs if has_batch(spec.shape)]
    places = [place for place, size in enumerate(sizes) if isinstance(size, Batch)]
    own, size = (batched[0].shape[0] if batched else 1), sizes[places[0]]
    if not isinstance(own, Batch) or not isinstance(size, Batch) or len(places) != 1 or size.multiple % own.multiple:
        raise CompileError(
            Diagnostic(
                f"no value has the shape {tuple(map(str, sizes))}, from which its batch size could be read",
                source=builder.origin.source,
                help="make it from a tensor of that shape: torch.zeros_like(x)",
            )
        )
    node = next(node for node in builder.graph.nodes if node.op == "placeholder" and node.name == batched[0].name)
    for dim in range(1, len(batched[0].shape)):
        node = builder.emit("aten.slice.Tensor", node, dim, 0, 1, 1)
    times = size.multiple // own.multiple
    apart: list[Dim] = [*sizes[: places[0]], own, *([times] if times > 1 else []), *sizes[places[0] + 1 :]]
    ones: list[Dim] = [own if place == places[0] else 1 for place in range(len(apart))]
    node = builder.emit("aten.reshape.default", node, ones)
    wide = builder.emit("aten.expand.default", node, apart)
    return wide if times == 1 else builder.emit("aten.reshape.default", wide, list(sizes))


def _repeat(builder: Builder, x: fx.Node, times: Sequence[Dim]) -> fx.Node:
    """Rewrite a repeat by the batch size as an expansion of a new dimension in front of the repeated one."""
    x = builder.emit("aten.repeat.default", x, [1 if isinstance(count, Batch) else count for count in times])
    own = builder.shape(x)
    pairs = [(count if isinstance(count, Batch) else 1, size) for count, size in zip(times, own, strict=True)]
    x = builder.emit("aten.reshape.default", x, [part for _, size in pairs for part in (1, size)])
    x = expand_to(builder, x, [part for pair in pairs for part in pair])
    return builder.emit("aten.reshape.default", x, [together(pair) for pair in pairs])
