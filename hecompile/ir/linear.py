"""Writes every linear layer of a UNet in one form: a stride-1 convolution of pictures, with a list of taps instead of a kernel.

    y[e, o, i, j] = sum over c, k of weights[o, c, k] * x[e, c, i + taps[k][0], j + taps[k][1]]      (x is zero outside)

A stride becomes space-to-depth at the input. A transposed convolution or a nearest upsampling becomes depth-to-space at the
output. A linear layer over tokens convolves a picture of one column. `Geometry` holds the two rearrangements; the weights are plain
arrays. The convolution is a correlation, as everywhere in deep learning. Elements `e` are the pictures of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.errors import ProtocolError

__all__ = [
    "Array", "Geometry", "Pair", "Part", "conv2d", "conv_transpose2d", "correlate", "linear", "row_groups", "upsampled_conv2d",
]  # fmt: skip

Array = npt.NDArray[Any]
Pair = tuple[int, int]
MOST_SIDE, MOST_CHANNELS, MOST_TAPS, MOST_ENTRIES = 1 << 20, 1 << 20, 1 << 14, 1 << 31  # of a picture; taps of a kernel of 128x128


@dataclass(frozen=True)
class Geometry:
    """How a layer's input tensor becomes the picture of a stride-1 convolution, and the result becomes a tensor again.

    Images are (E, C, H, W). Tokens are (..., L, C), which become pictures (E, C, L, 1); E is then the product of the leading
    dimensions. Raises `ProtocolError` when built from sizes that do not fit together or are too large.
    """

    tokens: bool
    channels: int  # C of the tensor
    size: Pair  # (H, W) of the tensor, (L, 1) for tokens
    down: Pair  # space-to-depth factors at the input
    taps: tuple[Pair, ...]
    grid: Pair  # rows and columns of the result before depth-to-space
    up: Pair  # depth-to-space factors at the output
    outputs: int  # O of the resulting tensor
    out_size: Pair  # (H, W) of the resulting tensor

    def __post_init__(self) -> None:
        numbers = (self.channels, self.outputs, *self.size, *self.down, *self.grid, *self.up, *self.out_size)
        if min(numbers) < 1 or not self.taps or len(set(self.taps)) != len(self.taps):
            raise ProtocolError(f"geometry: sizes below one or taps repeated: {self}")
        if any(grid * up < out for grid, up, out in zip(self.grid, self.up, self.out_size, strict=True)):
            raise ProtocolError(f"geometry: a grid of {self.grid} times {self.up} does not cover {self.out_size}")
        sides = (*self.size, *self.grid, *self.out_size, *(abs(offset) for tap in self.taps for offset in tap))
        if max(sides) > MOST_SIDE or len(self.taps) > MOST_TAPS or max(self.channels, self.picture[0], self.rows) > MOST_CHANNELS:
            raise ProtocolError("geometry: sizes or taps out of range")
        if max(prod(self.picture), self.rows * prod(self.grid)) > MOST_ENTRIES:
            raise ProtocolError("geometry: a picture out of range")
        column = {self.size, self.grid, self.out_size} == {(self.size[0], 1)} and {self.down, self.up} == {(1, 1)}
        if self.tokens and not column:
            raise ProtocolError(f"geometry: tokens as a picture that is no column: {self.size}, {self.grid}, {self.out_size}")

    @property
    def picture(self) -> tuple[int, int, int]:
        """Channels, rows and columns of the picture that is convolved."""
        height, width = (-(-size // down) for size, down in zip(self.size, self.down, strict=True))
        return self.channels * self.down[0] * self.down[1], height, width

    @cached_property
    def reach(self) -> tuple[Pair, Pair]:
        """Lowest and highest tap, by rows and by columns."""
        rows, columns = zip(*self.taps, strict=True)
        return (min(rows), max(rows)), (min(columns), max(columns))

    @property
    def rows(self) -> int:
        """Rows of the weight matrix: outputs before depth-to-space."""
        return self.outputs * self.up[0] * self.up[1]

    def pictures(self, shape: tuple[int, ...]) -> int:
        """E for a tensor of this shape. Raises `ProtocolError` for a tensor that the layer does not read."""
        count, rest = divmod(prod(shape), self.channels * self.size[0] * self.size[1])
        fits = len(shape) > 0 and shape[-1] == self.channels and not rest
        if not (fits if self.tokens else shape[1:] == (self.channels, *self.size)):
            raise ProtocolError(f"a value of shape {shape} where a layer reads {self.channels} channels of {self.size}")
        return count

    def to_picture(self, tensor: Array) -> Array:
        """(E, C, H, W) or (..., L, C) -> (E, C', H', W'). Raises `ProtocolError` for a tensor of another shape."""
        self.pictures(tensor.shape)
        if self.tokens:
            tensor = tensor.reshape(-1, self.size[0], self.channels).transpose(0, 2, 1)[..., None]
        channels, height, width = self.picture
        (dy, dx), elements = self.down, len(tensor)
        if self.down == (1, 1):
            return tensor
        rest = (height * dy - self.size[0], width * dx - self.size[1])
        tensor = np.pad(tensor, ((0, 0), (0, 0), (0, rest[0]), (0, rest[1])))
        split = tensor.reshape(elements, self.channels, height, dy, width, dx)
        return split.transpose(0, 1, 3, 5, 2, 4).reshape(elements, channels, height, width)

    def from_picture(self, picture: Array, leading: tuple[int, ...]) -> Array:
        """(E, O', grid) -> (E, O, H, W), or (*leading, O) for tokens, where `leading` is the input's shape without C."""
        elements, (uy, ux), (height, width) = len(picture), self.up, self.grid
        split = picture.reshape(elements, self.outputs, uy, ux, height, width).transpose(0, 1, 4, 2, 5, 3)
        image = split.reshape(elements, self.outputs, height * uy, width * ux)
        image = image[:, :, : self.out_size[0], : self.out_size[1]]
        if self.tokens:
            return image[..., 0].transpose(0, 2, 1).reshape(*leading, self.outputs)
        return image


@dataclass(frozen=True)
class Part:
    """One of the layers that a linear operation stands for: the name of its output, and its number of output channels."""

    output: str
    outputs: int
    path: str = ""
    source: str = ""


def correlate(picture: Array, weights: Array, taps: tuple[Pair, ...], grid: Pair) -> Array:
    """Return the convolution of pictures (E, C, H, W) with weights (O, C, K): (E, O, *grid), computed in the type of the inputs."""
    low_y, low_x = (min(0, *(tap[axis] for tap in taps)) for axis in (0, 1))
    high_y, high_x = (max(0, grid[axis] + max(tap[axis] for tap in taps) - picture.shape[2 + axis]) for axis in (0, 1))
    padded = np.pad(picture, ((0, 0), (0, 0), (-low_y, high_y), (-low_x, high_x)))
    result = np.zeros((len(picture), len(weights), *grid), np.result_type(picture, weights))
    for k, (dy, dx) in enumerate(taps):
        window = padded[:, :, dy - low_y : dy - low_y + grid[0], dx - low_x : dx - low_x + grid[1]]
        result += np.matmul(weights[:, :, k], window.reshape(*window.shape[:2], -1)).reshape(result.shape)
    return result


class _Taps:
    """Collects weights by tap, since several positions of a kernel may fall on one tap."""

    def __init__(self, outputs: int, channels: int) -> None:
        self._shape = (outputs, channels)
        self._weights: dict[Pair, Array] = {}

    def add(self, tap: Pair, outputs: slice, channels: slice, weights: Array) -> None:
        self._weights.setdefault(tap, np.zeros(self._shape, np.float64))[outputs, channels] += weights

    def finish(self) -> tuple[tuple[Pair, ...], Array]:
        taps = tuple(sorted(self._weights))
        return taps, np.stack([self._weights[tap] for tap in taps], axis=-1)


def _dense(weight: Array, groups: int) -> Array:
    """Return weights (O, C / groups, kh, kw) of a grouped convolution as those of an ordinary one, (O, C, kh, kw), with zeros."""
    if groups == 1:
        return weight.astype(np.float64)
    outputs, inner = weight.shape[:2]
    result = np.zeros((outputs, inner * groups, *weight.shape[2:]), np.float64)
    for group in range(groups):
        rows = slice(group * outputs // groups, (group + 1) * outputs // groups)
        result[rows, group * inner : (group + 1) * inner] = weight[rows]
    return result


def linear(weight: Array, tokens: int) -> tuple[Geometry, Array]:
    """Return the geometry and weights (O, C, 1) of a linear layer (O, C) over `tokens` tokens."""
    outputs, channels = weight.shape
    size = (tokens, 1)
    geometry = Geometry(True, channels, size, (1, 1), ((0, 0),), size, (1, 1), outputs, size)
    return geometry, weight.astype(np.float64)[..., None]


def conv2d(weight: Array, size: Pair, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> tuple[Geometry, Array]:
    """Return the geometry and weights (O, C', K) of a convolution (O, C / groups, kh, kw) of images of `size`."""
    dense = _dense(weight, groups)
    outputs, channels, *kernel = dense.shape
    out_size = tuple((size[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1))
    grid = (out_size[0], out_size[1])
    if stride == (1, 1):  # every kernel position is a tap of its own, in the same order
        steps = ((range(kernel[axis]), dilation[axis], padding[axis]) for axis in (0, 1))
        rows, columns = ([place * apart - margin for place in places] for places, apart, margin in steps)
        positions = tuple((y, x) for y in rows for x in columns)
        geometry = Geometry(False, channels, size, stride, positions, grid, (1, 1), outputs, grid)
        return geometry, dense.reshape(outputs, channels, -1)
    phases = stride[0] * stride[1]
    taps = _Taps(outputs, channels * phases)
    for ky in range(kernel[0]):
        for kx in range(kernel[1]):
            y, ry = divmod(ky * dilation[0] - padding[0], stride[0])
            x, rx = divmod(kx * dilation[1] - padding[1], stride[1])
            taps.add((y, x), slice(None), slice(ry * stride[1] + rx, None, phases), dense[:, :, ky, kx])
    used, weights = taps.finish()
    return Geometry(False, channels, size, stride, used, grid, (1, 1), outputs, grid), weights


def conv_transpose2d(
    weight: Array, size: Pair, stride: Pair, padding: Pair, output_padding: Pair, dilation: Pair, groups: int
) -> tuple[Geometry, Array]:
    """Return the geometry and weights of a transposed convolution (C, O / groups, kh, kw): one convolution for each phase of the
    output."""
    channels, inner, *kernel = weight.shape
    turned = weight.reshape(groups, channels // groups, inner, *kernel).transpose(0, 2, 1, 3, 4)
    dense = _dense(turned.reshape(groups * inner, channels // groups, *kernel), groups)
    out_size = tuple(
        (size[i] - 1) * stride[i] - 2 * padding[i] + dilation[i] * (kernel[i] - 1) + output_padding[i] + 1 for i in (0, 1)
    )
    phases = stride[0] * stride[1]
    taps = _Taps(len(dense) * phases, channels)
    for ky in range(kernel[0]):
        for kx in range(kernel[1]):
            # oy = iy * stride + ky * dilation - padding; with oy = stride * y + r: iy = y - (ky * dilation - padding) // stride
            y, ry = divmod(ky * dilation[0] - padding[0], stride[0])
            x, rx = divmod(kx * dilation[1] - padding[1], stride[1])
            taps.add((-y, -x), slice(ry * stride[1] + rx, None, phases), slice(None), dense[:, :, ky, kx])
    used, weights = taps.finish()
    grid = (-(-out_size[0] // stride[0]), -(-out_size[1] // stride[1]))
    geometry = Geometry(False, channels, size, (1, 1), used, grid, stride, len(dense), (out_size[0], out_size[1]))
    return geometry, weights


def upsampled_conv2d(weight: Array, size: Pair, factor: Pair, padding: Pair, dilation: Pair, groups: int) -> tuple[Geometry, Array]:
    """Return the geometry and weights of a nearest upsampling with a stride-1 convolution behind it, computed on the small
    picture: one convolution for each phase of the output."""
    dense = _dense(weight, groups)
    outputs, channels, *kernel = dense.shape
    out_size = tuple(size[i] * factor[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) for i in (0, 1))
    phases = factor[0] * factor[1]
    taps = _Taps(outputs * phases, channels)
    for ry in range(factor[0]):
        for rx in range(factor[1]):
            rows = slice(ry * factor[1] + rx, None, phases)
            for ky in range(kernel[0]):
                for kx in range(kernel[1]):
                    y = (ry + ky * dilation[0] - padding[0]) // factor[0]
                    x = (rx + kx * dilation[1] - padding[1]) // factor[1]
                    taps.add((y, x), rows, slice(None), dense[:, :, ky, kx])
    used, weights = taps.finish()
    grid = (-(-out_size[0] // factor[0]), -(-out_size[1] // factor[1]))
    return Geometry(False, channels, size, (1, 1), used, grid, factor, outputs, (out_size[0], out_size[1])), weights


def row_groups(rows: Sequence[int]) -> Iterator[slice]:
    """Divide layers with so many rows into runs of neighbours that have at most `MOST_CHANNELS` rows together."""
    start, total = 0, 0
    for place, count in enumerate(rows):
        if total + count > MOST_CHANNELS and place > start:
            yield slice(start, place)
            start, total = place, 0
        total += count
    yield slice(start, len(rows))
