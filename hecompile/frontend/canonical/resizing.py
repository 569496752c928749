"""Rules for resizing: by integer factors, by selecting entries, and by interpolation as one matrix per axis (see `rewrites`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.canonical.mixing import mixed
from hecompile.frontend.canonical.moves import entries
from hecompile.frontend.canonical.rewrites import RULES, Rule, reshape
from hecompile.ir.builder import Builder, operator
from hecompile.ir.graph import Batch

__all__: list[str] = []


def _sizes(b: Builder, x: fx.Node) -> list[int]:
    """Return the sizes of the axes after batch and channels. Raises `CompileError` if one grows with the batch."""
    sizes = list(b.shape(x)[2:])
    if any(isinstance(size, Batch) for size in sizes):
        raise CompileError(
            Diagnostic("cannot resize the batch dimension", source=b.origin.source, help="make the batch the first dimension")
        )
    return sizes  # type: ignore[return-value]


def _nearest_places(name: str, sizes: Sequence[int], arguments: Sequence[Any]) -> list[list[int]]:
    """Return, per axis, the source index of each entry of the result, found by applying torch's own call to a ramp of indices."""
    places = []
    for axis, size in enumerate(sizes):
        ramp = torch.arange(float(size)).reshape([-1 if place == axis else 1 for place in range(len(sizes))])
        moved: torch.Tensor = operator(name)(ramp.expand(sizes)[None, None].contiguous(), *arguments)[0, 0]
        line = moved[tuple(slice(None) if place == axis else 0 for place in range(len(sizes)))]
        places.append([int(place) for place in line])
    return places


def _whole(places: Sequence[int], size: int) -> int | None:
    """Return the integer factor by which every entry of an axis is repeated; None if the indices are not of that form."""
    factor = len(places) // size
    return factor if factor and list(places) == [place // factor for place in range(size * factor)] else None


def _nearest(name: str) -> Rule:
    """Return the rule of nearest resizing: axes with integer factors become one upsampling, which a layer can absorb; others select
    entries."""

    def emit(b: Builder, x: fx.Node, *arguments: Any) -> fx.Node:
        sizes = _sizes(b, x)
        places = _nearest_places(name, sizes, arguments)
        factors = [_whole(line, size) or 1 for line, size in zip(places, sizes, strict=True)]
        spatial = range(max(len(sizes) - 2, 0), len(sizes))
        for axis, (line, size) in enumerate(zip(places, sizes, strict=True)):
            if axis not in spatial or _whole(line, size) is None:
                x = entries(b, x, 2 + axis, line)
        return _upsampled(b, x, [factors[axis] for axis in spatial])

    return emit


def _upsampled(b: Builder, x: fx.Node, factors: Sequence[int]) -> fx.Node:
    """Upsample the last one or two axes by integer factors."""
    if all(factor == 1 for factor in factors):
        return x
    shape = b.shape(x)
    # channels and frames are merged into the channels of a picture, since they are treated alike
    middle = 1
    for size in shape[1 : len(shape) - len(factors)]:
        middle *= size  # type: ignore[operator]
    picture = (shape[0], middle, *([1] if len(factors) == 1 else []), *shape[len(shape) - len(factors) :])
    grown = b.emit("aten.upsample_nearest2d.vec", reshape(b, x, picture), None, [float(factor) for factor in ([1, *factors])[-2:]])
    return reshape(b, grown, (*shape[: len(shape) - len(factors)], *b.shape(grown)[4 - len(factors) :]))


for _rank in (1, 2, 3):
    for _overload in ("vec", "default"):
        for _kind in ("upsample_nearest", "_upsample_nearest_exact"):
            RULES[f"aten.{_kind}{_rank}d.{_overload}"] = _nearest(f"aten.{_kind}{_rank}d.{_overload}")


def _line(name: str, axis: int, size: int, rank: int, arguments: Sequence[Any]) -> torch.Tensor:
    """Return the matrix (target, size) of a call along one axis, found by applying torch's own call to unit vectors."""
    # the other axes have size two: with size one, torch's antialiased calls mistake the channels for them
    line = torch.eye(size).reshape(1, size, *(size if place == axis else 1 for place in range(rank)))
    units = line.expand(1, size, *(size if place == axis else 2 for place in range(rank))).contiguous()
    one = [argument if place == axis else 2 for place, argument in enumerate(arguments[0] or ())] or None
    rest = list(arguments[1:])
    if name.endswith(".vec"):
        rest[-1] = [factor if place == axis else 1.0 for place, factor in enumerate(rest[-1] or ())] or None
    else:  # one factor per axis, each as a separate argument
        rest[-rank:] = [factor if place == axis else None for place, factor in enumerate(rest[-rank:])]
    answer: torch.Tensor = operator(name)(units, one, *rest)[0]
    return answer[(slice(None), *(slice(None) if place == axis else 0 for place in range(rank)))].T


def _interpolated(name: str) -> Rule:
    """Return the rule of interpolation, which acts on every axis separately, with weights that depend on positions only."""

    def emit(b: Builder, x: fx.Node, *arguments: Any) -> fx.Node:
        sizes = _sizes(b, x)
        held = _bilinear(b, x, arguments) if name == "aten.upsample_bilinear2d.vec" else None
        if held is not None:
            return held
        for axis, size in enumerate(sizes):
            x = mixed(b, x, 2 + axis, _line(name, axis, size, len(sizes), arguments))
        return x

    return emit


def _bilinear(b: Builder, x: fx.Node, arguments: Sequence[Any]) -> fx.Node | None:
    """Return the canonical bilinear call by factors; None where no factors give the sizes."""
    size, corners, factors = arguments
    own = b.shape(x)[2:]
    used = (
        [float(factor) for factor in factors]
        if size is None
        else [target / source for target, source in zip(size, own, strict=True)]
    )
    resized = b.emit("aten.upsample_bilinear2d.vec", x, None, corners, used)
    return resized if size is None or b.shape(resized)[2:] == tuple(size) else None


for _name in ("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d", "_upsample_bilinear2d_aa",
              "_upsample_bicubic2d_aa"):  # fmt: skip
    for _overload in ("vec", "default"):
        RULES[f"aten.{_name}.{_overload}"] = _interpolated(f"aten.{_name}.{_overload}")
