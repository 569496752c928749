"""Tiles: a picture cut into equal rectangles over all channels, of which some are encrypted and the others revealed.

The encrypted part of a layer's input is a batch of small pictures, one per encrypted tile, with zeros around them. A tile of h x w
entries takes part in (h + reach) x (w + reach) results, so its convolution is one with a wider grid, and the tiles' results
overlap:

    y[i, j] = S[i, j] + sum over encrypted tiles at (top, left) of z[tile][i - top + high, j - left + high]

`high` is the highest tap, and `reach` its distance from the lowest tap. z[tile] are a tile's results. S is the layer's result on
the revealed entries, with zeros in the encrypted tiles. All numbers are integers, so the sum is the layer's result exactly.
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
    """Return the highest tap, and its distance from the lowest tap, each for rows and columns."""
    by_axis = [[tap[axis] for tap in geometry.taps] for axis in (0, 1)]
    high = (max(by_axis[0]), max(by_axis[1]))
    return high, (high[0] - min(by_axis[0]), high[1] - min(by_axis[1]))


def cut_of(geometry: Geometry, tile: Pair) -> Pair | None:
    """Return how many rows and columns of tiles of this size a layer's input has. None if it is a single tile, or sizes do not
    divide.

    The size of a tile is clamped to the picture.
    """
    cut = [size // min(side, size) for side, size in zip(tile, geometry.size, strict=True)]
    if cut[0] * cut[1] == 1 or any(size % min(side, size) for side, size in zip(tile, geometry.size, strict=True)):
        return None
    return (cut[0], cut[1]) if Tiles(cut[0], cut[1], (0,)).fits(geometry) else None


@dataclass(frozen=True)
class Tiles:
    """A picture cut into `rows` x `columns` equal tiles, numbered row by row. Some are encrypted, at least one and not all.

    Raises `ProtocolError` when built from other numbers.
    """

    rows: int
    columns: int
    encrypted: tuple[int, ...]

    def __post_init__(self) -> None:
        if min(self.rows, self.columns) < 1 or self.count > MOST_TILES or list(self.encrypted) != sorted(set(self.encrypted)):
            raise ProtocolError(f"tiles: {self.encrypted} of {self.rows} x {self.columns} are not numbers in order")
        if not self.encrypted or not 0 <= self.encrypted[0] <= self.encrypted[-1] < self.count:
            raise ProtocolError(f"tiles: none encrypted, or more than there are: {self.encrypted} of {self.rows} x {self.columns}")
        if len(self.encrypted) == self.count:
            raise ProtocolError("tiles: all are encrypted, so nothing is revealed")

    @property
    def count(self) -> int:
        return self.rows * self.columns

    @cached_property
    def revealed(self) -> tuple[int, ...]:
        return tuple(sorted(set(range(self.count)) - set(self.encrypted)))

    def fits(self, geometry: Geometry) -> bool:
        """Return whether the sides of a layer's tensor, and of its picture, are multiples of the number of tiles."""
        cut = (self.rows, self.columns)
        return all(size % (tiles * down) == 0 for size, tiles, down in zip(geometry.size, cut, geometry.down, strict=True))

    def block(self, geometry: Geometry) -> Pair:
        """Return the height and width of a tile of a layer's picture."""
        _, height, width = geometry.picture
        return height // self.rows, width // self.columns

    def geometry(self, geometry: Geometry) -> Geometry:
        """Return the layer's convolution on one tile with zeros around it, with every result that depends on the tile."""
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
        """Cut these tiles out of pictures (E, C', H, W), as pictures (E len(tiles), C', h, w)."""
        elements, channels, height, width = picture.shape
        h, w = height // self.rows, width // self.columns
        split = picture.reshape(elements, channels, self.rows, h, self.columns, w).transpose(0, 2, 4, 1, 3, 5)
        return split.reshape(elements, self.count, channels, h, w)[:, list(tiles)].reshape(-1, channels, h, w)

    def spread(self, pieces: Array, tiles: tuple[int, ...]) -> Array:
        """Return pictures, the inverse of `cut`: (E, C', H, W) from tiles (E len(tiles), C', h, w), zero in all other tiles."""
        _, channels, h, w = pieces.shape
        split = np.zeros((len(pieces) // len(tiles), self.count, channels, h, w), pieces.dtype)
        split[:, list(tiles)] = pieces.reshape(-1, len(tiles), channels, h, w)
        grouped = split.reshape(-1, self.rows, self.columns, channels, h, w).transpose(0, 3, 1, 4, 2, 5)
        return grouped.reshape(-1, channels, self.rows * h, self.columns * w)

    def mask(self, height: int, width: int) -> npt.NDArray[np.bool_]:
        """Return a mask (H, W) that is True where entries of a picture are encrypted."""
        ones = np.ones((len(self.encrypted), 1, height // self.rows, width // self.columns), np.bool_)
        mask: npt.NDArray[np.bool_] = self.spread(ones, self.encrypted)[0, 0]
        return mask

    def merge(self, results: Array, geometry: Geometry) -> Array:
        """Add up the results of the encrypted tiles (E tiles, rows, *tile's grid), which overlap, to (E, rows, *grid)."""
        (h, w), (high, _), count = self.block(geometry), _reach(geometry), len(self.encrypted)
        below = [max(0, -tap) for tap in high]  # results in front of the first one that depends on a tile
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
