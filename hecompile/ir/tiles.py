"""Rectangles of a picture, over all its channels, that reach the server encrypted while the others are released.

The encrypted part of a layer's input is a batch of small pictures, one per encrypted tile, with zeros around them. A tile of h x w
entries takes part in (h + reach) x (w + reach) results, so its convolution is one with a wider grid, and the tiles' results
overlap:

    y[i, j] = S[i, j] + sum over encrypted tiles at (top, left) of z[tile][i - top + high, j - left + high]

`high` is the highest tap and `reach` how far it is above the lowest. S is the sum over what is released, zero in the encrypted
tiles. All of it is integers, so the parts add up to the layer exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hecompile.errors import ProtocolError
from hecompile.ir.linear import Array, Geometry, Pair

__all__ = ["Tiles", "cut_of"]

MOST_TILES = 1 << 20


def _reach(geometry: Geometry) -> tuple[Pair, Pair]:
    """Highest tap, and its distance from the lowest, by rows and columns."""
    by_axis = [[tap[axis] for tap in geometry.taps] for axis in (0, 1)]
    high = (max(by_axis[0]), max(by_axis[1]))
    return high, (high[0] - min(by_axis[0]), high[1] - min(by_axis[1]))


def cut_of(geometry: Geometry, tile: Pair) -> Pair | None:
    """Rows and columns of tiles of this size in a layer's input; None if it has a single one, or they are not whole.

    A tile larger than the picture is as large as that.
    """
    cut = [size // min(side, size) for side, size in zip(tile, geometry.size, strict=True)]
    if cut[0] * cut[1] == 1 or any(size % min(side, size) for side, size in zip(tile, geometry.size, strict=True)):
        return None
    return (cut[0], cut[1]) if Tiles(cut[0], cut[1], (0,)).fits(geometry) else None


@dataclass(frozen=True)
class Tiles:
    """A picture cut into `rows` x `columns` equal tiles, numbered row by row, of which some are encrypted: not none, not all."""

    rows: int
    columns: int
    encrypted: tuple[int, ...]

    def __post_init__(self) -> None:
        if min(self.rows, self.columns) < 1 or self.count > MOST_TILES or list(self.encrypted) != sorted(set(self.encrypted)):
            raise ProtocolError(f"tiles: {self.encrypted} of {self.rows} x {self.columns} are not numbers in order")
        if not self.encrypted or not 0 <= self.encrypted[0] <= self.encrypted[-1] < self.count:
            raise ProtocolError(f"tiles: none encrypted, or more than there are: {self.encrypted} of {self.rows} x {self.columns}")
        if len(self.encrypted) == self.count:
            raise ProtocolError("tiles: all encrypted, none to cut out")

    @property
    def count(self) -> int:
        return self.rows * self.columns

    @cached_property
    def released(self) -> tuple[int, ...]:
        return tuple(sorted(set(range(self.count)) - set(self.encrypted)))

    def fits(self, geometry: Geometry) -> bool:
        """Whether the tiles are whole in the tensor and in the layer's picture of it."""
        cut = (self.rows, self.columns)
        return all(size % (tiles * down) == 0 for size, tiles, down in zip(geometry.size, cut, geometry.down, strict=True))

    def block(self, geometry: Geometry) -> Pair:
        """Height and width of a tile of the picture."""
        _, height, width = geometry.picture
        return height // self.rows, width // self.columns

    def geometry(self, geometry: Geometry) -> Geometry:
        """The convolution of one tile, with every result that it takes part in."""
        (height, width), (high, reach) = self.block(geometry), _reach(geometry)
        grid = (height + reach[0], width + reach[1])
        return replace(
            geometry,
            size=(height * geometry.down[0], width * geometry.down[1]),
            taps=tuple((y - high[0], x - high[1]) for y, x in geometry.taps),
            grid=grid,
            out_size=(grid[0] * geometry.up[0], grid[1] * geometry.up[1]),
        )

    def cut(self, picture: Array, tiles: tuple[int, ...]) -> Array:
        """These tiles of pictures: (E, C', H, W) -> (E len(tiles), C', h, w)."""
        elements, channels, height, width = picture.shape
        h, w = height // self.rows, width // self.columns
        split = picture.reshape(elements, channels, self.rows, h, self.columns, w).transpose(0, 2, 4, 1, 3, 5)
        return split.reshape(elements, self.count, channels, h, w)[:, list(tiles)].reshape(-1, channels, h, w)

    def spread(self, pieces: Array, tiles: tuple[int, ...]) -> Array:
        """The inverse, zero in all other tiles: (E len(tiles), C', h, w) -> (E, C', H, W)."""
        _, channels, h, w = pieces.shape
        split = np.zeros((len(pieces) // len(tiles), self.count, channels, h, w), pieces.dtype)
        split[:, list(tiles)] = pieces.reshape(-1, len(tiles), channels, h, w)
        grouped = split.reshape(-1, self.rows, self.columns, channels, h, w).transpose(0, 3, 1, 4, 2, 5)
        return grouped.reshape(-1, channels, self.rows * h, self.columns * w)

    def mask(self, height: int, width: int) -> npt.NDArray[np.bool_]:
        """True where an entry of a picture is encrypted: (H, W)."""
        ones = np.ones((len(self.encrypted), 1, height // self.rows, width // self.columns), np.bool_)
        mask: npt.NDArray[np.bool_] = self.spread(ones, self.encrypted)[0, 0]
        return mask

    def merge(self, results: Array, geometry: Geometry) -> Array:
        """The encrypted tiles' results, overlapping, as those of the picture: (E tiles, rows, *tile's grid) -> (E, rows, *grid)."""
        (h, w), (high, _), count = self.block(geometry), _reach(geometry), len(self.encrypted)
        below = [max(0, -each) for each in high]  # results before the first that any tile takes part in
        size = [
            below[axis] + max(high[axis] + geometry.grid[axis], geometry.picture[1 + axis] + results.shape[2 + axis] - (h, w)[axis])
            for axis in (0, 1)
        ]
        whole = np.zeros((len(results) // count, results.shape[1], *size), results.dtype)
        by_tile = results.reshape(-1, count, *results.shape[1:])
        for place, tile in enumerate(self.encrypted):
            y, x = tile // self.columns * h + below[0], tile % self.columns * w + below[1]
            whole[..., y : y + results.shape[2], x : x + results.shape[3]] += by_tile[:, place]
        top, left = high[0] + below[0], high[1] + below[1]
        return whole[..., top : top + geometry.grid[0], left : left + geometry.grid[1]]

    def __str__(self) -> str:
        return f"{len(self.encrypted)} of {self.rows} x {self.columns} tiles encrypted"
