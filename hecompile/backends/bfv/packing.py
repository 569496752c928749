"""Where the entries of pictures lie in polynomials, so that shifts and sums of polynomials are convolutions.

One channel of `e` elements (of the batch, or tiles of a large picture) takes an area of A coefficients: rows of `stride`,
`slot_rows` rows per element, with zeros that keep shifted pictures from running into each other. `p_in` channels share an upload,
channel i at i A; `p_out` outputs share an answer, output j at j J. The jump J is N over the next power of two, so that moving by J
moves whole groups of coefficients (see `groups`). That is exact iff p_in A <= J: the sum for one output leaves residue in at most
p_in - 1 areas on either side of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.errors import ProtocolError
from hecompile.ir.linear import Geometry, Pair

__all__ = ["Layout", "Packing", "layouts", "row_norms"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Packing:
    """One way to lay out a product's pictures in polynomials of `dimension` coefficients."""

    dimension: int
    elements: int  # pictures of the whole batch
    share: int  # slots (elements or tiles) of one polynomial
    tile_rows: int  # output rows per tile; the grid's rows where pictures are whole
    p_in: int
    p_out: int


@dataclass(frozen=True)
class Layout:
    """A packing applied to a geometry: all sizes, and both rearrangements."""

    geometry: Geometry
    packing: Packing

    def __post_init__(self) -> None:
        packing = self.packing
        numbers = (packing.elements, packing.share, packing.tile_rows, packing.p_in, packing.p_out)
        if min(numbers) < 1 or max(numbers) >= 1 << 62:
            raise ProtocolError(f"packing: numbers below one: {packing}")
        if packing.tile_rows > self.geometry.grid[0] or packing.p_in > self.geometry.picture[0]:
            raise ProtocolError(f"packing: larger than the picture: {packing}")
        if packing.p_in * self.area > self.jump:
            raise ProtocolError(f"packing: {packing} needs more than {packing.dimension} coefficients")

    @property
    def _reach(self) -> tuple[Pair, Pair]:
        return self.geometry.reach

    @cached_property
    def tiles(self) -> int:
        """Tiles per picture."""
        return -(-self.geometry.grid[0] // self.packing.tile_rows)

    @property
    def tiled(self) -> bool:
        return self.tiles > 1

    @property
    def in_rows(self) -> int:
        """Rows of a tile's part of the picture: its own and those that its taps reach."""
        (low, high), _ = self._reach
        return self.packing.tile_rows + high - low if self.tiled else self.geometry.picture[1]

    @cached_property
    def stride(self) -> int:
        (low, high), columns = self._reach[1], self.geometry.picture[2]
        return max(columns + max(0, -low, self.geometry.grid[1] + high - columns), self.geometry.grid[1])

    @cached_property
    def slot_rows(self) -> int:
        if self.tiled:
            return self.in_rows  # the rows that taps reach are part of the tile
        (low, high), rows = self._reach[0], self.geometry.picture[1]
        return max(rows + max(0, -low, self.geometry.grid[0] + high - rows), self.geometry.grid[0])

    @cached_property
    def slot(self) -> int:
        """Coefficients of one element or tile."""
        return self.slot_rows * self.stride

    @cached_property
    def area(self) -> int:
        return self.packing.share * self.slot

    @cached_property
    def blocks(self) -> int:
        """Polynomials side by side that the slots of the batch need."""
        return -(-self.packing.elements * self.tiles // self.packing.share)

    @cached_property
    def uploads(self) -> int:
        """Polynomials per block that carry the input channels."""
        return -(-self.geometry.picture[0] // self.packing.p_in)

    @cached_property
    def answers(self) -> int:
        """Polynomials per block that carry the outputs."""
        return -(-self.geometry.rows // self.packing.p_out)

    @property
    def fill(self) -> float:
        """Share of the uploaded coefficients that carry an entry of the input."""
        channels, rows, columns = self.geometry.picture
        return self.packing.elements * channels * rows * columns / (self.blocks * self.uploads * self.packing.dimension)

    @cached_property
    def shifts(self) -> npt.NDArray[np.int64]:
        """(C', K): by how much a channel's polynomial is rolled down for a tap, so that its sum lies in area 0."""
        low = self._reach[0][0] if self.tiled else 0
        taps = np.array([(dy - low) * self.stride + dx for dy, dx in self.geometry.taps], np.int64)
        places = np.arange(self.geometry.picture[0]) % self.packing.p_in * self.area
        return places[:, None] + taps[None, :]

    @property
    def groups(self) -> int:
        """Groups of coefficients, a power of two; the first p_out of an answer carry an output each."""
        return 1 << (self.packing.p_out - 1).bit_length()

    @cached_property
    def jump(self) -> int:
        """Coefficients of a group."""
        return self.packing.dimension // self.groups

    @property
    def columns(self) -> int:
        """Coefficients of each group that are multiplied: all of `a`, and of `b` those of an area."""
        return self.jump + self.area

    @cached_property
    def area_reads(self) -> npt.NDArray[np.int64]:
        """The coefficients of an area that are read, in order: (share * tile_rows * columns)."""
        rows = np.arange(self.packing.tile_rows)[:, None] * self.stride + np.arange(self.geometry.grid[1])
        return (np.arange(self.packing.share)[:, None, None] * self.slot + rows).reshape(-1)

    @cached_property
    def reads(self) -> npt.NDArray[np.int64]:
        """The coefficients of an answer that are read, in order: (p_out * share * tile_rows * columns)."""
        return (np.arange(self.packing.p_out)[:, None] * self.jump + self.area_reads).reshape(-1)

    @property
    def read_count(self) -> int:
        """How many those are."""
        return self.packing.p_out * self.packing.share * self.packing.tile_rows * self.geometry.grid[1]

    def place(self, picture: Array) -> npt.NDArray[np.int64]:
        """Integers (E, C', H', W') -> polynomials (blocks, uploads, N)."""
        packing, (channels, _, columns) = self.packing, self.geometry.picture
        slots = self._cut(picture) if self.tiled else picture  # (S, C', in_rows, W')
        full = np.zeros((self.blocks * packing.share, self.uploads * packing.p_in, self.slot_rows, self.stride), np.int64)
        full[: len(slots), :channels, : self.in_rows, :columns] = slots
        grouped = full.reshape(self.blocks, packing.share, self.uploads, packing.p_in, self.slot)
        areas = grouped.transpose(0, 2, 3, 1, 4).reshape(self.blocks, self.uploads, packing.p_in * self.area)
        result = np.zeros((self.blocks, self.uploads, packing.dimension), np.int64)
        result[..., : areas.shape[-1]] = areas
        return result

    def _cut(self, picture: Array) -> Array:
        """(E, C', H', W') -> overlapping tiles (E tiles, C', in_rows, W'), zero outside the picture."""
        (low, _), step = self._reach[0], self.packing.tile_rows
        above = max(0, -low)
        below = max(0, self.tiles * step + self._reach[0][1] - picture.shape[2])
        padded = np.pad(picture, ((0, 0), (0, 0), (above, below), (0, 0)))
        starts = [tile * step + low + above for tile in range(self.tiles)]
        tiles: Array = np.stack([padded[:, :, start : start + self.in_rows] for start in starts], axis=1)
        return tiles.reshape(-1, *tiles.shape[2:])

    def read(self, coefficients: Array) -> Array:
        """Read coefficients (blocks, answers, len(reads)) -> the result (E, rows, *grid)."""
        packing, (height, width) = self.packing, self.geometry.grid
        split = coefficients.reshape(self.blocks, self.answers, packing.p_out, packing.share, packing.tile_rows, width)
        slots = split.transpose(0, 3, 1, 2, 4, 5).reshape(-1, self.answers * packing.p_out, packing.tile_rows, width)
        slots = slots[: packing.elements * self.tiles, : self.geometry.rows]
        if not self.tiled:
            return slots
        tiles = slots.reshape(packing.elements, self.tiles, *slots.shape[1:]).transpose(0, 2, 1, 3, 4)
        return tiles.reshape(packing.elements, self.geometry.rows, -1, width)[:, :, :height]

    def unread(self, result: Array) -> Array:
        """The inverse of `read`, zero where an answer is not full: (E, rows, *grid) -> (blocks, answers, len(reads))."""
        packing, (height, width) = self.packing, self.geometry.grid
        if self.tiled:
            below = self.tiles * packing.tile_rows - height
            padded = np.pad(result, ((0, 0), (0, 0), (0, below), (0, 0)))
            split = padded.reshape(*result.shape[:2], self.tiles, packing.tile_rows, width)
            result = split.transpose(0, 2, 1, 3, 4).reshape(-1, result.shape[1], packing.tile_rows, width)
        shape = (self.blocks * packing.share, self.answers * packing.p_out, packing.tile_rows, width)
        slots = np.zeros(shape, result.dtype)
        slots[: len(result), : result.shape[1]] = result
        grouped = slots.reshape(self.blocks, packing.share, self.answers, packing.p_out, packing.tile_rows, width)
        return grouped.transpose(0, 2, 3, 1, 4, 5).reshape(self.blocks, self.answers, -1)

    def answer_norms(self, weights: npt.NDArray[np.int8]) -> tuple[int, float]:
        """Largest 1-norm and 2-norm over the answers, after adding up weights that hit the same coefficient.

        An answer is a sum of uploads times integer polynomials; these are the norms of all their coefficients together.
        """
        return self._merged_norms(weights) if self.meeting > 1 else self.summed_norms(*row_norms(weights))

    def summed_norms(self, first: npt.NDArray[np.int64], squares: npt.NDArray[np.int64]) -> tuple[int, float]:
        """The norms of `answer_norms` from those of every row (see `row_norms`), if no weights hit the same coefficient."""
        padded = np.zeros((2, self.answers * self.packing.p_out), np.int64)
        padded[0, : len(first)], padded[1, : len(squares)] = first, squares
        sums = padded.reshape(2, self.answers, -1).sum(axis=2).max(axis=1, initial=0)
        return int(sums[0]), math.sqrt(int(sums[1]))

    @cached_property
    def meeting(self) -> int:
        """Most weights of an answer and an upload that hit one coefficient: one, but for pictures of a few rows or columns."""
        return int(np.unique(self._places[0], return_counts=True)[1].max())

    @property
    def _places(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(p_out, p_in, K): the coefficient of the monomial X^(j J - i A - tap) of each, with X^N = -1, and its sign."""
        outputs = np.arange(self.packing.p_out)[:, None, None] * self.jump
        powers = (outputs - self.shifts[None, : self.packing.p_in]) % (2 * self.packing.dimension)
        return powers % self.packing.dimension, np.where(powers >= self.packing.dimension, -1, 1)

    def _merged_norms(self, weights: npt.NDArray[np.int8]) -> tuple[int, float]:
        packing, (channels, taps) = self.packing, self.shifts.shape
        padded = np.zeros((self.answers * packing.p_out, self.uploads * packing.p_in, taps), np.int16)
        padded[: len(weights), :channels] = weights
        wide = padded.reshape(self.answers, packing.p_out, self.uploads, packing.p_in, taps)
        places, signs = self._places
        terms = (wide * signs[None, :, None].astype(np.int16)).transpose(1, 3, 4, 0, 2).reshape(places.size, -1)
        order = np.argsort(places.reshape(-1), kind="stable")
        starts = np.flatnonzero(np.diff(places.reshape(-1)[order], prepend=-1))
        merged = np.add.reduceat(terms[order], starts, axis=0, dtype=np.int64)  # (places, answers * uploads)
        first = np.abs(merged).sum(axis=0).reshape(self.answers, -1).sum(axis=1).max(initial=0)
        second = np.square(merged).sum(axis=0).reshape(self.answers, -1).sum(axis=1).max(initial=0)
        return int(first), math.sqrt(int(second))


def row_norms(weights: npt.NDArray[np.int8]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Of every row of (rows, C', K): the sum of |weights|, and of their squares."""
    flat = weights.reshape(len(weights), -1).astype(np.int16)
    return np.abs(flat).sum(axis=1, dtype=np.int64), (flat * flat).sum(axis=1, dtype=np.int64)


def _useful_shares(count: int, room: int) -> list[int]:
    """Numbers of things per polynomial up to `room` that change how many polynomials `count` things need."""
    return sorted({-(-count // polynomials) for polynomials in range(-(-count // room), count + 1)})


def layouts(geometry: Geometry, dimension: int, elements: int) -> list[Layout]:
    """The packings worth trying, those first where the batch fills a polynomial; none where one row of the picture does not fit.

    A batch that does not fill one makes blocks, which share the `a` half of the server's work.
    """
    found: list[Layout] = []
    whole = geometry.grid[0]
    for tile_rows in sorted({-(-whole // tiles) for tiles in range(1, whole + 1)}, reverse=True):
        single = Layout(geometry, Packing(1 << 62, elements, 1, tile_rows, 1, 1))
        if single.slot > dimension:
            continue
        slots = elements * single.tiles
        for share in reversed(_useful_shares(slots, min(slots, dimension // single.slot))):
            found += _channels(geometry, Packing(dimension, elements, share, tile_rows, 1, 1), dimension // (share * single.slot))
        if 2 * single.slot <= dimension:
            break  # smaller tiles would only add halo
    return found


def _channels(geometry: Geometry, packing: Packing, room: int) -> Iterator[Layout]:
    """A packing with every useful number of channels an upload, and most outputs an answer that fit beside them.

    Where all channels are in an upload also fewer outputs, as each adds to the noise.
    """
    most_in = min(room, geometry.picture[0])
    for p_in in _useful_shares(geometry.picture[0], most_in):
        most = 1 << ((room // p_in).bit_length() - 1)  # outputs that are whole groups apart
        for outputs in [most >> halvings for halvings in range(most.bit_length() if p_in == most_in else 1)]:
            answers = -(-geometry.rows // min(outputs, geometry.rows))
            yield Layout(geometry, replace(packing, p_in=p_in, p_out=-(-geometry.rows // answers)))
