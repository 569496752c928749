"""Cheetah's packing of a convolution into coefficients (Huang et al. 2022, section 4): one product of polynomials sums over
channels and taps. A product here also holds several outputs, one behind the other, as Cheetah's matrix products do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

COSTS = (13, 7, 1)  # of an upload, a reply and a product, as measured with SEAL at 2048


@dataclass(frozen=True)
class Layout:
    """Tiles of a picture, channels in an upload, outputs in a reply."""

    shape: tuple[int, int, int]
    tile: tuple[int, int]
    channels: int
    outputs: int

    @property
    def stride(self) -> int:
        """Coefficients of a row: two columns of its neighbours, or one of zeros that two rows share."""
        return self.tile[1] + (1 if self.tile[1] == self.shape[2] else 2)

    @property
    def height(self) -> int:
        """Rows of a channel: two of its neighbours, or one of zeros that two channels share."""
        return self.tile[0] + (1 if self.tile[0] == self.shape[2] else 2)

    @property
    def area(self) -> int:
        """Coefficients of a channel."""
        return self.stride * self.height

    @property
    def counts(self) -> tuple[int, int, int]:
        """Tiles, uploads and replies of a tile."""
        channels, outputs, side = self.shape
        tiles = ceil(side / self.tile[0]) * ceil(side / self.tile[1])
        return tiles, ceil(channels / self.channels), ceil(outputs / self.outputs)

    @property
    def cost(self) -> int:
        tiles, uploads, replies = self.counts
        return tiles * (COSTS[0] * uploads + COSTS[1] * replies + COSTS[2] * uploads * replies)

    def corners(self) -> Iterator[tuple[int, int]]:
        return product(range(0, self.shape[2], self.tile[0]), range(0, self.shape[2], self.tile[1]))

    def uploads(self, values: npt.NDArray[Any], dimension: int) -> npt.NDArray[Any]:
        """Values (C, side, side) as polynomials (tiles, uploads, dimension)."""
        (rows, columns), (tiles, uploads, _) = self.tile, self.counts
        padded = np.pad(values, ((0, uploads * self.channels - len(values)), (1, rows + 1), (1, columns + 1)))
        polynomials = np.zeros((tiles, uploads, dimension), np.int64)
        for tile, (y, x) in enumerate(self.corners()):
            window = padded[:, y : y + self.height, x : x + self.stride]
            polynomials[tile, :, : self.channels * self.area] = window.reshape(uploads, -1)
        return polynomials

    def weights(self, weights: npt.NDArray[Any], dimension: int) -> npt.NDArray[Any]:
        """Weights (O, C, 3, 3) as polynomials (replies, uploads, dimension): channels and taps backwards."""
        _, uploads, replies = self.counts
        polynomials = np.zeros((replies, uploads, dimension), np.int64)
        for output, channel in product(*map(range, weights.shape[:2])):
            (reply, m), (upload, c) = divmod(output, self.outputs), divmod(channel, self.channels)
            last = (m * self.channels + self.channels - 1 - c) * self.area + 2 * self.stride + 2
            for ky, kx in product(range(3), range(3)):
                polynomials[reply, upload, last - ky * self.stride - kx] = weights[output, channel, ky, kx]
        return polynomials

    def places(self) -> npt.NDArray[Any]:
        """The coefficients of a reply that hold results (outputs, rows, columns)."""
        first = (np.arange(self.outputs) * self.channels + self.channels - 1) * self.area + 2 * self.stride + 2
        rows, columns = (np.arange(size) for size in self.tile)
        return first[:, None, None] + rows[:, None] * self.stride + columns

    def results(self, read: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Results (O, side, side) from what was read (tiles, replies, outputs, rows, columns)."""
        _, outputs, side = self.shape
        (rows, columns), sums = self.tile, np.zeros((outputs, side, side), np.int64)
        for (y, x), tile in zip(self.corners(), read.reshape(len(read), -1, rows, columns), strict=True):
            bottom, right = min(side, y + rows), min(side, x + columns)
            sums[:, y:bottom, x:right] = tile[:outputs, : bottom - y, : right - x]
        return sums


def cheapest(shape: tuple[int, int, int], dimension: int) -> Layout:
    """The layout that costs least, of all sizes of tiles and of all numbers of channels and outputs in a polynomial."""
    channels, outputs, side = shape
    sizes = sorted({ceil(side / count) for count in range(1, side + 1)})
    layouts = []
    for tile in product(sizes, sizes):
        room = dimension // Layout(shape, tile, 1, 1).area
        layouts += [Layout(shape, tile, share, min(outputs, room // share)) for share in range(1, min(channels, room) + 1)]
    return min((layout for layout in layouts if layout.places().max() < dimension), key=lambda layout: layout.cost)
