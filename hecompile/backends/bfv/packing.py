"""Where the entries of pictures lie in polynomials, so that shifts and sums of polynomials are convolutions.

One channel of `e` elements (of the batch, or tiles of a large picture) takes an area of A coefficients: rows of `stride`,
`slot_rows` rows per element, with zeros that keep shifted pictures from running into each other. `p_in` channels share an upload,
channel i at i A; `p_out` outputs share an answer, output j at j J. The jump J is N over the next power of two, so that moving by J
moves whole groups of coefficients (see `groups`). That is exact iff p_in A <= J: the sum for one output leaves residue in at most
p_in - 1 areas on either side of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.errors import ProtocolError
from hecompile.ir.linear import Geometry, Pair

__all__ = ["Layout", "Packing", "layouts"]

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

    @property
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

    @property
    def stride(self) -> int:
        (low, high), columns = self._reach[1], self.geometry.picture[2]
        return max(columns + max(0, -low, self.geometry.grid[1] + high - columns), self.geometry.grid[1])

    @property
    def slot_rows(self) -> int:
        if self.tiled:
            return self.in_rows  # the rows that taps reach are part of the tile
        (low, high), rows = self._reach[0], self.geometry.picture[1]
        return max(rows + max(0, -low, self.geometry.grid[0] + high - rows), self.geometry.grid[0])

    @property
    def slot(self) -> int:
        """Coefficients of one element or tile."""
        return self.slot_rows * self.stride

    @property
    def area(self) -> int:
        return self.packing.share * self.slot

    @property
    def blocks(self) -> int:
        """Polynomials side by side that the slots of the batch need."""
        return -(-self.packing.elements * self.tiles // self.packing.share)

    @property
    def uploads(self) -> int:
        """Polynomials per block that carry the input channels."""
        return -(-self.geometry.picture[0] // self.packing.p_in)

    @property
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

    @property
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
        packing = self.packing
        channels, taps = self.shifts.shape
        rows = self.answers * packing.p_out
        padded = np.zeros((rows, self.uploads * packing.p_in, taps), np.int64)
        padded[: len(weights), :channels] = weights
        wide = padded.reshape(self.answers, packing.p_out, self.uploads, packing.p_in, taps)
        # the monomial of (j, i, tap) is X^(j J - i A - tap), with X^N = -1
        shifts = self.shifts[: packing.p_in]
        places = np.arange(packing.p_out)[:, None, None] * self.jump
        powers = (places - shifts[None]) % (2 * packing.dimension)
        signs = np.where(powers >= packing.dimension, -1, 1)
        places, inverse = np.unique((powers % packing.dimension).reshape(-1), return_inverse=True)
        terms = (wide * signs[None, :, None]).transpose(0, 2, 1, 3, 4).reshape(self.answers, self.uploads, -1)
        if len(places) == len(inverse):
            merged = terms
        else:
            merged = np.zeros((self.answers, self.uploads, len(places)), np.int64)
            for place, term in enumerate(inverse):
                merged[:, :, term] += terms[:, :, place]
        first = np.abs(merged).sum(axis=(1, 2)).max(initial=0)
        second = np.square(merged.astype(np.float64)).sum(axis=(1, 2)).max(initial=0)
        return int(first), float(np.sqrt(second))


def _useful_shares(count: int, room: int) -> list[int]:
    """Numbers of things per polynomial up to `room` that change how many polynomials `count` things need."""
    return sorted({-(-count // polynomials) for polynomials in range(-(-count // room), count + 1)})


def layouts(geometry: Geometry, dimension: int, elements: int) -> list[Layout]:
    """The packings worth trying, the batch filling a polynomial first; none where one row of the picture does not fit."""
    found: list[Layout] = []
    whole = geometry.grid[0]
    for tile_rows in sorted({-(-whole // tiles) for tiles in range(1, whole + 1)}, reverse=True):
        single = Layout(geometry, Packing(1 << 62, elements, 1, tile_rows, 1, 1))
        if single.slot > dimension:
            continue
        slots = elements * single.tiles
        share = -(-slots // -(-slots // (dimension // single.slot)))
        room = dimension // (share * single.slot)
        for p_in in _useful_shares(geometry.picture[0], min(room, geometry.picture[0])):
            most = 1 << ((room // p_in).bit_length() - 1)  # outputs that are whole groups apart
            answers = -(-geometry.rows // min(most, geometry.rows))
            p_out = -(-geometry.rows // answers)
            found.append(Layout(geometry, Packing(dimension, elements, share, tile_rows, p_in, p_out)))
        if 2 * single.slot <= dimension:
            break  # smaller tiles would only add halo
    return found
