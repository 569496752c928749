"""Where the entries of pictures lie in slots.

All pictures of a region share one grid of `area` slots per channel. Smaller pictures lie on it with gaps, so that a convolution
has the same offsets everywhere. Several inputs may share an upload, in which each begins at a multiple of `block` slots. An
upload may hold several copies of an input that a wide layer reads, each rotated by block / copies slots more than the one before.
Each copy then serves a share of the channel offsets, so a matrix has that many times fewer diagonals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hecompile.errors import ProtocolError

__all__ = ["INPUT_RANGE", "OUTPUT_RANGE", "Grid", "Piece", "Result", "Upload", "power_of_two"]

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
INPUT_RANGE = 32.0  # the client clips a region's inputs to [-32, 32]
OUTPUT_RANGE = 64.0  # half of the largest output that the first prime leaves room for


def power_of_two(number: int) -> int:
    """The smallest power of two that is not below `number`."""
    return 1 << max(0, number - 1).bit_length()


@dataclass(frozen=True)
class Grid:
    """The rows and columns, both powers of two, on which all pictures of a region lie."""

    rows: int
    columns: int

    @property
    def area(self) -> int:
        """Slots of one channel."""
        return self.rows * self.columns

    def slots(self, shape: tuple[int, int, int]) -> Index:
        """The slot of every entry of a picture of shape (C, H, W), flat.

        Raises:
            ProtocolError: if the picture is larger than the grid.
        """
        channels, height, width = shape
        if height > self.rows or width > self.columns:
            raise ProtocolError(f"a picture of {shape} does not fit a grid of {self.rows}x{self.columns}")
        y = np.arange(height) * (self.rows // height) * self.columns
        x = np.arange(width) * (self.columns // width)
        slots: Index = (np.arange(channels)[:, None, None] * self.area + y[:, None] + x).reshape(-1)
        return slots

    def period(self, channels: int) -> int:
        """How many slots a result of this many channels takes before it repeats."""
        return power_of_two(channels) * self.area


@dataclass(frozen=True)
class Piece:
    """Where one input lies in an upload."""

    input: str
    shape: tuple[int, int, int]
    start: int
    copies: int
    spread: bool  # the input has one entry a channel, which is repeated over the channel's area

    def size(self, block: int, area: int) -> int:
        """Slots that all copies take together."""
        return self.copies * -(-self.shape[0] * area // block) * block


@dataclass(frozen=True)
class Upload:
    """One ciphertext of a request: its inputs lie side by side in a vector that repeats after `period` slots."""

    name: str
    level: int
    scale: float
    block: int
    period: int
    pieces: tuple[Piece, ...]

    def place(self, piece: Piece, copy: int, slots: Index, grid: Grid) -> Index:
        """Where the given slots of a piece lie in the vector, in copy number `copy`."""
        single = piece.size(self.block, grid.area) // piece.copies
        rotated = (slots % self.block - copy * (self.block // piece.copies)) % self.block
        result: Index = piece.start + copy * single + slots // self.block * self.block + rotated
        return result

    def vector(self, values: dict[str, Array], grid: Grid) -> Array:
        """One period (period) of the vector that holds one element's inputs, which are given by name."""
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
    """One output: its shape (C, H, W), by which its slots are known, and level and scale of the ciphertext that holds it."""

    output: str
    shape: tuple[int, int, int]
    level: int
    scale: float
