"""Rules for pools, with windows of one size and adaptive ones, along one to three axes (see `rewrites`)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.canonical.mixing import mixed
from hecompile.frontend.canonical.moves import entries
from hecompile.frontend.canonical.padding import padded
from hecompile.frontend.canonical.rewrites import permute, reshape, rule
from hecompile.ir.builder import Builder
from hecompile.ir.graph import Batch

__all__ = ["adaptive_max", "max_pool"]


def _each(value: Any, rank: int) -> list[int]:
    """Return one number per axis, from one for all or one each."""
    line = list(value) if isinstance(value, list | tuple) else [value]
    return line * (rank // len(line))


def _axes(b: Builder, x: fx.Node, rank: int) -> list[int]:
    """Return the sizes of the axes that are pooled, the last ones. Raises `CompileError` if one of them grows with the batch."""
    sizes = b.shape(x)[-rank:]
    if any(isinstance(size, Batch) for size in sizes):
        raise CompileError(
            Diagnostic("cannot pool over the batch dimension", source=b.origin.source, help="pool the other dimensions only")
        )
    return list(sizes)  # type: ignore[arg-type]


def _as_pictures(b: Builder, x: fx.Node, rank: int, pool: Callable[[fx.Node], fx.Node]) -> fx.Node:
    """Apply a pool of pictures (B, C, H, W) to a value with one axis, or without channels. Pools treat all dimensions but the axes
    alike."""
    shape = b.shape(x)
    axes = (1,) * (2 - rank) + shape[-rank:]
    before = shape[: len(shape) - rank]
    if len(before) == 2 and rank == 2:
        return pool(x)
    front = before[:1] if before else (1,)
    middle = math.prod(int(str(size)) for size in before[1:])
    result = pool(reshape(b, x, (*front, middle, *axes)))
    return reshape(b, result, (*before, *b.shape(result)[-rank:]))


def _by_planes(b: Builder, x: fx.Node, pool: Callable[[fx.Node, slice], fx.Node]) -> fx.Node:
    """Pool (B, C, F, H, W) with box-shaped windows: first along H and W, then along F."""
    x = pool(x, slice(1, 3))
    turned = permute(b, x, [0, 1, 3, 4, 2])
    return permute(b, pool(turned, slice(0, 1)), [0, 1, 4, 2, 3])


def _missing(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    """Return how many entries the last window reaches beyond the padding, where the number of windows is rounded up."""
    reach = dilation * (kernel - 1) + 1
    count = -(-(size + 2 * padding - reach) // stride) + 1
    if (count - 1) * stride >= size + padding:  # such a window would start in the padding
        count -= 1
    return max((count - 1) * stride + reach - size - 2 * padding, 0)


def _grown(b: Builder, x: fx.Node, before: Sequence[int], after: Sequence[int], value: float) -> fx.Node:
    """Return x with entries added around its last axes."""
    return padded(b, x, [number for pair in zip(reversed(before), reversed(after), strict=True) for number in pair], value)


def max_pool(b: Builder, x: fx.Node, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil: bool, rank: int) -> fx.Node:
    """Return the largest entry of every window."""
    kernel, padding, dilation = (_each(value, rank) for value in (kernel, padding, dilation))
    stride = _each(stride or kernel, rank)
    if rank == 3:
        return _by_planes(
            b, x, lambda y, axes: max_pool(b, y, kernel[axes], stride[axes], padding[axes], dilation[axes], ceil, len(kernel[axes]))
        )
    sizes = _axes(b, x, rank)
    if ceil:
        after = [_missing(*line) for line in zip(sizes, kernel, stride, padding, dilation, strict=True)]
        x = _grown(b, x, [0] * rank, after, -math.inf)
    ones, zeros = [1] * (2 - rank), [0] * (2 - rank)
    lines = [[*ones, *kernel], [*ones, *stride], [*zeros, *padding], [*ones, *dilation]]
    return _as_pictures(b, x, rank, lambda y: b.emit("aten.max_pool2d.default", y, *lines))


def _avg_pool(
    b: Builder, x: fx.Node, kernel: Any, stride: Any, padding: Any, ceil: bool, counted: bool, divisor: int | None, rank: int
) -> fx.Node:
    """Return the mean of every window.

    Where windows reach beyond the padding because their number is rounded up, or where the divisor is given as a number, zeros are
    added there, and the mean over them is multiplied by a correction.
    """
    kernel, padding = (_each(value, rank) for value in (kernel, padding))
    stride = _each(stride or kernel, rank)
    if rank == 3 and divisor is None:
        return _by_planes(
            b, x, lambda y, axes: _avg_pool(b, y, kernel[axes], stride[axes], padding[axes], ceil, counted, None, len(kernel[axes]))
        )
    lines = list(zip(_axes(b, x, rank), kernel, stride, padding, strict=True))
    after = [_missing(*line, 1) if ceil else 0 for line in lines]
    if divisor is not None or any(after):
        x = _grown(b, x, padding, [more + own for more, own in zip(after, padding, strict=True)], 0.0)
        mean = _avg_pool(b, x, kernel, stride, [0] * rank, False, True, None, rank)
        if divisor is not None:
            return b.emit("aten.mul.Tensor", mean, math.prod(kernel) / divisor)
        shape = b.shape(mean)[-rank:]
        counts = [_counted(*line, counted, int(str(count))) for line, count in zip(lines, shape, strict=True)]
        return b.emit("aten.mul.Tensor", mean, b.constant(math.prod(kernel) / functools.reduce(_outer, counts), "share"))
    ones, zeros = [1] * (2 - rank), [0] * (2 - rank)
    sizes = [[*ones, *kernel], [*ones, *stride], [*zeros, *padding]]
    return _as_pictures(b, x, rank, lambda y: b.emit("aten.avg_pool2d.default", y, *sizes, False, counted))


def _counted(size: int, kernel: int, stride: int, padding: int, with_padding: bool, count: int) -> torch.Tensor:
    """Return how many entries of an axis torch counts in each window: with or without the padding, but never beyond it."""
    first = torch.arange(count) * stride - padding
    low, high = (-padding, size + padding) if with_padding else (0, size)
    return (first + kernel).clamp(max=high) - first.clamp(min=low)


def _outer(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return first[..., None] * second


@rule("max_pool1d.default", "max_pool2d.default", "max_pool3d.default")
def _max(b: Builder, x: fx.Node, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil: bool = False) -> fx.Node:
    return max_pool(b, x, kernel, stride, padding, dilation, ceil, len(kernel))


@rule("avg_pool1d.default", "avg_pool2d.default", "avg_pool3d.default")
def _avg(
    b: Builder, x: fx.Node, kernel: Any, stride: Any = (), padding: Any = 0, ceil: bool = False, counted: bool = True,
    divisor: int | None = None,
) -> fx.Node:  # fmt: skip
    return _avg_pool(b, x, kernel, stride, padding, ceil, counted, divisor, len(kernel))


def _windows(size: int, count: int) -> list[range]:
    """Return the windows of an adaptive pool, which have different lengths where `count` does not divide the size."""
    return [range(size * place // count, -(-size * (place + 1) // count)) for place in range(count)]


@rule("_adaptive_avg_pool2d.default", "adaptive_avg_pool1d.default", "adaptive_avg_pool2d.default", "adaptive_avg_pool3d.default",
      "_adaptive_avg_pool3d.default")  # fmt: skip
def _adaptive_avg(b: Builder, x: fx.Node, counts: Sequence[int]) -> fx.Node:
    """Rewrite an adaptive average: equal windows are a pool, others are weights along each axis."""
    rank = len(counts)
    sizes = _axes(b, x, rank)
    if all(size % count == 0 for size, count in zip(sizes, counts, strict=True)):
        kernel = [size // count for size, count in zip(sizes, counts, strict=True)]
        return _avg_pool(b, x, kernel, kernel, [0] * rank, False, True, None, rank)
    for axis, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        matrix = torch.zeros(count, size)
        for line, window in zip(matrix, _windows(size, count), strict=True):
            line[list(window)] = 1 / len(window)
        x = mixed(b, x, axis - rank, matrix)
    return x


def adaptive_max(b: Builder, x: fx.Node, counts: Sequence[int]) -> fx.Node:
    """Return the largest entry of every window; windows shorter than others read their last entry again."""
    rank = len(counts)
    sizes = _axes(b, x, rank)
    dims = [len(b.shape(x)) - rank + axis for axis in range(rank)]
    if all(count == 1 for count in counts):
        return b.emit("aten.amax.default", x, dims, True)
    if all(size % count == 0 for size, count in zip(sizes, counts, strict=True)):
        kernel = [size // count for size, count in zip(sizes, counts, strict=True)]
        return max_pool(b, x, kernel, kernel, 0, 1, False, rank)
    for dim, size, count in zip(dims, sizes, counts, strict=True):
        windows = _windows(size, count)
        width = max(map(len, windows))
        read = entries(b, x, dim, [place for window in windows for place in [*window, *[window[-1]] * width][:width]])
        shape = b.shape(x)
        x = b.emit("aten.amax.default", reshape(b, read, (*shape[:dim], count, width, *shape[dim + 1 :])), [dim + 1], False)
    return x
