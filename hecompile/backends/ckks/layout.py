"""Where the entries of pictures lie in slots.

All pictures of a region share one grid of `area` slots per channel; smaller ones lie on it with gaps, so that a convolution has the
same offsets everywhere. Inputs share an upload: each begins at a multiple of `block` slots. An input that a wide layer reads may be
there several times, turned by block / copies: each copy then serves a share of the channel offsets, and there are that many fewer
diagonals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hecompile.errors import ProtocolError

__all__ = ["INPUT_RANGE", "OUTPUT_RANGE", "Grid", "Piece", "Result", "Upload", "power_of_two"]

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
INPUT_RANGE = 32.0  # what the client clips a region's inputs to
OUTPUT_RANGE = 64.0  # half of what the first prime leaves room for


def power_of_two(number: int) -> int:
    """The next one that is not below."""
    return 1 << max(0, number - 1).bit_length()


@dataclass(frozen=True)
class Grid:
    """Rows and columns that all pictures of a region are laid out on; both powers of two."""

    rows: int
    columns: int

    @property
    def area(self) -> int:
        return self.rows * self.columns

    def slots(self, shape: tuple[int, int, int]) -> Index:
        """The slot of every entry of a picture, flat."""
        channels, height, width = shape
        if height > self.rows or width > self.columns:
            raise ProtocolError(f"a picture of {shape} does not fit a grid of {self.rows}x{self.columns}")
        y = np.arange(height) * (self.rows // height) * self.columns
        x = np.arange(width) * (self.columns // width)
        found: Index = (np.arange(channels)[:, None, None] * self.area + y[:, None] + x).reshape(-1)
        return found

    def period(self, channels: int) -> int:
        """Slots after which a result repeats."""
        return power_of_two(channels) * self.area


@dataclass(frozen=True)
class Piece:
    """One input in an upload."""

    input: str
    shape: tuple[int, int, int]
    start: int
    copies: int
    spread: bool  # one entry a channel, repeated over its area

    def size(self, block: int, area: int) -> int:
        """Slots that it takes."""
        return self.copies * -(-self.shape[0] * area // block) * block


@dataclass(frozen=True)
class Upload:
    """One ciphertext of a request: pieces in a vector that repeats after `period` slots."""

    name: str
    level: int
    scale: float
    block: int
    period: int
    pieces: tuple[Piece, ...]

    def place(self, piece: Piece, copy: int, slots: Index, grid: Grid) -> Index:
        """Where slots of a piece lie in the vector, in one of its copies."""
        single = piece.size(self.block, grid.area) // piece.copies
        turned = (slots % self.block - copy * (self.block // piece.copies)) % self.block
        result: Index = piece.start + copy * single + slots // self.block * self.block + turned
        return result

    def vector(self, values: dict[str, Array], grid: Grid) -> Array:
        """One period for one element's inputs."""
        whole = np.zeros(self.period)
        for piece in self.pieces:
            value, slots = values[piece.input].reshape(-1), grid.slots(piece.shape)
            if piece.spread:
                slots = (slots[:, None] + np.arange(grid.area)).reshape(-1)
                value = np.repeat(value, grid.area)
            for copy in range(piece.copies):
                whole[self.place(piece, copy, slots, grid)] = value
        return whole


@dataclass(frozen=True)
class Result:
    """One output: where its entries lie in the slots of an answer."""

    output: str
    shape: tuple[int, int, int]
    level: int
    scale: float
