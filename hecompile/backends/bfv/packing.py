"""Where the pixels of images lie in polynomials, so that sums of shifted polynomials are convolutions.

An example with N = 16 coefficients: two input channels c and d, an image of one row with three columns, two outputs y and z.
The kernel has two taps, so that y[x] is the sum over both channels of v[0] c[x] + v[1] c[x + 1]:

    coefficient     0    1    2    3  |  4    5    6    7  |  8    9   10   11  | 12   13   14   15
    one upload     c0   c1   c2    0  | d0   d1   d2    0  |  0    0    0    0  |  0    0    0    0
    its answer     y0   y1   y2    .  |  .    .    .    .  | z0   z1   z2    .  |  .    .    .    .      . is never read

    N      dimension             coefficients of a polynomial P, which is multiplied modulo X^N + 1
           row_stride            from a row of an image to the next one: its columns, and the zeros that taps run into (4)
           image_stride          from an image to the next one of the same channel: all its rows, and rows of zeros (4)
    A      channel_stride        from a channel to the next one: `images_per_poly` images (4)
    J      output_stride         from an output to the next one: N over a power of two (8)
    p_in, p_out                  channels of an upload, and outputs of an answer (2 and 2)
           coefficient_groups    N / J, of which the first p_out begin with an output each (2)
           row bands             the parts that an image too large for a polynomial is cut into; each is packed as an image

An answer is the sum of w[j, i, tap] X^(j J - i A - tap) P over outputs j, channels i and taps, where the tap (dy, dx) is the number
dy row_stride + dx. Coefficient j J + p of it is therefore the sum of w[j', i, tap] P[(j - j') J + i A + p + tap]. The terms with
j' = j are the convolution: P holds the pixel there, or one of the zeros after a row or an image. All other terms are zero if
p_in A <= J, which `Layout` insists on: modulo N their indices lie behind the last pixel of P.
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
from hecompile.ir.linear import Geometry

__all__ = ["Layout", "Packing", "layouts", "row_norms"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Packing:
    """One way to pack the pictures of a layer into polynomials of `dimension` coefficients."""

    dimension: int
    elements: int  # pictures of the whole batch
    images_per_poly: int  # images of one channel in a polynomial: pictures, or their row bands
    band_rows: int  # output rows of a row band; all rows of the grid where pictures are not cut
    p_in: int  # channels of an upload
    p_out: int  # outputs of an answer


@dataclass(frozen=True)
class Layout:
    """A packing applied to a geometry: all sizes, and the rearrangements between pictures and polynomials.

    Raises `ProtocolError` for a packing that does not fit the geometry or the polynomial.
    """

    geometry: Geometry
    packing: Packing

    def __post_init__(self) -> None:
        packing = self.packing
        numbers = (packing.elements, packing.images_per_poly, packing.band_rows, packing.p_in, packing.p_out)
        if min(numbers) < 1 or max(numbers) >= 1 << 62:
            raise ProtocolError(f"packing: numbers must be from 1 to 2^62: {packing}")
        if packing.band_rows > self.geometry.grid[0] or packing.p_in > self.geometry.picture[0]:
            raise ProtocolError(f"packing: more rows or channels than the picture has: {packing}")
        if packing.p_in * self.channel_stride > self.output_stride:
            raise ProtocolError(f"packing: {packing} needs more than {packing.dimension} coefficients")

    @cached_property
    def row_bands(self) -> int:
        """Row bands per picture: 1 where pictures are whole."""
        return -(-self.geometry.grid[0] // self.packing.band_rows)

    @property
    def banded(self) -> bool:
        """Whether pictures are cut into row bands."""
        return self.row_bands > 1

    @property
    def in_rows(self) -> int:
        """Input rows of an image: the picture's, or those that the taps of a row band reach."""
        (low, high), _ = self.geometry.reach
        return self.packing.band_rows + high - low if self.banded else self.geometry.picture[1]

    @cached_property
    def row_stride(self) -> int:
        """Coefficients from one row of an image to the next."""
        (low, high), columns = self.geometry.reach[1], self.geometry.picture[2]
        return max(columns + max(0, -low, self.geometry.grid[1] + high - columns), self.geometry.grid[1])

    @cached_property
    def image_rows(self) -> int:
        """Rows from one image to the next, those of zeros included."""
        if self.banded:
            return self.in_rows  # the rows that taps reach are part of the row band
        (low, high), rows = self.geometry.reach[0], self.geometry.picture[1]
        return max(rows + max(0, -low, self.geometry.grid[0] + high - rows), self.geometry.grid[0])

    @cached_property
    def image_stride(self) -> int:
        """Coefficients from one image to the next one of the same channel."""
        return self.image_rows * self.row_stride

    @cached_property
    def channel_stride(self) -> int:
        """A: coefficients from one channel of an upload to the next."""
        return self.packing.images_per_poly * self.image_stride

    @cached_property
    def blocks(self) -> int:
        """Ciphertext blocks: polynomials of one channel that all images of the batch need. Each block has a secret of its own."""
        return -(-self.packing.elements * self.row_bands // self.packing.images_per_poly)

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
        """The fraction of the uploaded coefficients that carry an entry of the input."""
        channels, rows, columns = self.geometry.picture
        return self.packing.elements * channels * rows * columns / (self.blocks * self.uploads * self.packing.dimension)

    @cached_property
    def shifts(self) -> npt.NDArray[np.int64]:
        """(C', K): i A + tap, by which a polynomial is rolled down so that what the tap of channel i meets begins at 0."""
        low = self.geometry.reach[0][0] if self.banded else 0
        taps = np.array([(dy - low) * self.row_stride + dx for dy, dx in self.geometry.taps], np.int64)
        channels = np.arange(self.geometry.picture[0]) % self.packing.p_in * self.channel_stride
        return channels[:, None] + taps[None, :]

    @property
    def coefficient_groups(self) -> int:
        """N / J, a power of two: the first p_out groups of an answer's coefficients begin with an output each."""
        return 1 << (self.packing.p_out - 1).bit_length()

    @cached_property
    def output_stride(self) -> int:
        """J: coefficients from one output of an answer to the next."""
        return self.packing.dimension // self.coefficient_groups

    @cached_property
    def channel_gather(self) -> npt.NDArray[np.int64]:
        """Where the results of one output lie, in order, from its first coefficient: (images_per_poly * band_rows * columns)."""
        rows = np.arange(self.packing.band_rows)[:, None] * self.row_stride + np.arange(self.geometry.grid[1])
        return (np.arange(self.packing.images_per_poly)[:, None, None] * self.image_stride + rows).reshape(-1)

    @cached_property
    def gather_indices(self) -> npt.NDArray[np.int64]:
        """The coefficients of an answer that hold results, in order: (p_out * images_per_poly * band_rows * columns)."""
        return (np.arange(self.packing.p_out)[:, None] * self.output_stride + self.channel_gather).reshape(-1)

    @property
    def gather_count(self) -> int:
        """The length of `gather_indices`."""
        return self.packing.p_out * self.packing.images_per_poly * self.packing.band_rows * self.geometry.grid[1]

    def pack(self, picture: Array) -> npt.NDArray[np.int64]:
        """Integers (E, C', H', W') -> polynomials (blocks, uploads, N)."""
        packing, (channels, _, columns) = self.packing, self.geometry.picture
        images = self._cut(picture) if self.banded else picture  # (images, C', in_rows, W')
        shape = (self.blocks * packing.images_per_poly, self.uploads * packing.p_in, self.image_rows, self.row_stride)
        full = np.zeros(shape, np.int64)
        full[: len(images), :channels, : self.in_rows, :columns] = images
        by_block = full.reshape(self.blocks, packing.images_per_poly, self.uploads, packing.p_in, self.image_stride)
        by_channel = by_block.transpose(0, 2, 3, 1, 4).reshape(self.blocks, self.uploads, packing.p_in * self.channel_stride)
        result = np.zeros((self.blocks, self.uploads, packing.dimension), np.int64)
        result[..., : by_channel.shape[-1]] = by_channel
        return result

    def _cut(self, picture: Array) -> Array:
        """(E, C', H', W') -> overlapping row bands (E row_bands, C', in_rows, W'), zero outside the picture."""
        (low, _), step = self.geometry.reach[0], self.packing.band_rows
        above = max(0, -low)
        below = max(0, self.row_bands * step + self.geometry.reach[0][1] - picture.shape[2])
        padded = np.pad(picture, ((0, 0), (0, 0), (above, below), (0, 0)))
        starts = [band * step + low + above for band in range(self.row_bands)]
        bands: Array = np.stack([padded[:, :, start : start + self.in_rows] for start in starts], axis=1)
        return bands.reshape(-1, *bands.shape[2:])

    def gather(self, coefficients: Array) -> Array:
        """The coefficients at `gather_indices` of all answers, (blocks, answers, gather_count) -> the result (E, rows, *grid)."""
        packing, (height, width) = self.packing, self.geometry.grid
        shape = (self.blocks, self.answers, packing.p_out, packing.images_per_poly, packing.band_rows, width)
        by_image = coefficients.reshape(shape).transpose(0, 3, 1, 2, 4, 5)
        images = by_image.reshape(-1, self.answers * packing.p_out, packing.band_rows, width)
        images = images[: packing.elements * self.row_bands, : self.geometry.rows]
        if not self.banded:
            return images
        bands = images.reshape(packing.elements, self.row_bands, *images.shape[1:]).transpose(0, 2, 1, 3, 4)
        return bands.reshape(packing.elements, self.geometry.rows, -1, width)[:, :, :height]

    def scatter(self, result: Array) -> Array:
        """The inverse of `gather`, zero where an answer is not full: (E, rows, *grid) -> (blocks, answers, gather_count)."""
        packing, (height, width) = self.packing, self.geometry.grid
        if self.banded:
            below = self.row_bands * packing.band_rows - height
            padded = np.pad(result, ((0, 0), (0, 0), (0, below), (0, 0)))
            bands = padded.reshape(*result.shape[:2], self.row_bands, packing.band_rows, width)
            result = bands.transpose(0, 2, 1, 3, 4).reshape(-1, result.shape[1], packing.band_rows, width)
        shape = (self.blocks, packing.images_per_poly, self.answers, packing.p_out, packing.band_rows, width)
        images = np.zeros((shape[0] * shape[1], shape[2] * shape[3], *shape[4:]), result.dtype)
        images[: len(result), : result.shape[1]] = result
        return images.reshape(shape).transpose(0, 2, 3, 1, 4, 5).reshape(self.blocks, self.answers, -1)

    def answer_norms(self, weights: npt.NDArray[np.int8]) -> tuple[int, float]:
        """The largest 1-norm and 2-norm of an answer's weights, W1 and W2. Weights that hit one coefficient are added up first."""
        return self._merged_norms(weights) if self.max_collisions > 1 else self.summed_norms(*row_norms(weights))

    def summed_norms(self, first: npt.NDArray[np.int64], squares: npt.NDArray[np.int64]) -> tuple[int, float]:
        """The norms of `answer_norms` from the result of `row_norms`. Exact if no two weights hit the same coefficient."""
        padded = np.zeros((2, self.answers * self.packing.p_out), np.int64)
        padded[0, : len(first)], padded[1, : len(squares)] = first, squares
        sums = padded.reshape(2, self.answers, -1).sum(axis=2).max(axis=1, initial=0)
        return int(sums[0]), math.sqrt(int(sums[1]))

    @cached_property
    def max_collisions(self) -> int:
        """The largest number of weights between one upload and one answer that are added to the same coefficient. It is 1,
        except for pictures of a few rows or columns."""
        return int(np.unique(self._monomials[0], return_counts=True)[1].max())

    @property
    def _monomials(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """X^(j J - i A - tap) as a power from 0 to N - 1 and a sign, since X^N = -1: both (p_out, p_in, K)."""
        outputs = np.arange(self.packing.p_out)[:, None, None] * self.output_stride
        powers = (outputs - self.shifts[None, : self.packing.p_in]) % (2 * self.packing.dimension)
        return powers % self.packing.dimension, np.where(powers >= self.packing.dimension, -1, 1)

    def _merged_norms(self, weights: npt.NDArray[np.int8]) -> tuple[int, float]:
        """The norms of `answer_norms` where several weights hit one coefficient: those are added up first."""
        packing, (channels, taps) = self.packing, self.shifts.shape
        padded = np.zeros((self.answers * packing.p_out, self.uploads * packing.p_in, taps), np.int16)
        padded[: len(weights), :channels] = weights
        wide = padded.reshape(self.answers, packing.p_out, self.uploads, packing.p_in, taps)
        powers, signs = self._monomials
        terms = (wide * signs[None, :, None].astype(np.int16)).transpose(1, 3, 4, 0, 2).reshape(powers.size, -1)
        order = np.argsort(powers.reshape(-1), kind="stable")
        starts = np.flatnonzero(np.diff(powers.reshape(-1)[order], prepend=-1))
        merged = np.add.reduceat(terms[order], starts, axis=0, dtype=np.int64)  # (powers, answers * uploads)
        first = np.abs(merged).sum(axis=0).reshape(self.answers, -1).sum(axis=1).max(initial=0)
        second = np.square(merged).sum(axis=0).reshape(self.answers, -1).sum(axis=1).max(initial=0)
        return int(first), math.sqrt(int(second))


def row_norms(weights: npt.NDArray[np.int8]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For every row of weights (rows, C', K), the sum of |weights| and the sum of their squares: both (rows)."""
    flat = weights.reshape(len(weights), -1).astype(np.int16)
    return np.abs(flat).sum(axis=1, dtype=np.int64), (flat * flat).sum(axis=1, dtype=np.int64)


def _counts_per_poly(count: int, room: int) -> list[int]:
    """How many things to put in a polynomial, at most `room`: the least that suffices, for every useful number of polynomials."""
    return sorted({-(-count // polynomials) for polynomials in range(-(-count // room), count + 1)})


def layouts(geometry: Geometry, dimension: int, elements: int) -> list[Layout]:
    """The packings worth trying, the most images per polynomial first; an empty list if one row of the picture does not fit.

    With fewer images per polynomial there are more blocks, for which the server computes the `a` half of its work only once.
    """
    candidates: list[Layout] = []
    whole = geometry.grid[0]
    for band_rows in sorted({-(-whole // bands) for bands in range(1, whole + 1)}, reverse=True):
        single = Layout(geometry, Packing(1 << 62, elements, 1, band_rows, 1, 1))
        if single.image_stride > dimension:
            continue
        images = elements * single.row_bands
        for per_poly in reversed(_counts_per_poly(images, min(images, dimension // single.image_stride))):
            room = dimension // (per_poly * single.image_stride)
            candidates += _with_channels(geometry, Packing(dimension, elements, per_poly, band_rows, 1, 1), room)
        if 2 * single.image_stride <= dimension:
            break  # narrower row bands would only repeat more rows
    return candidates


def _with_channels(geometry: Geometry, packing: Packing, room: int) -> Iterator[Layout]:
    """The packing with every useful p_in, and the largest p_out beside it. `room`: how many channel strides fit in N.

    Where one upload has all channels also with smaller p_out, since every output of an answer adds to its noise.
    """
    most_in = min(room, geometry.picture[0])
    for p_in in _counts_per_poly(geometry.picture[0], most_in):
        most = 1 << ((room // p_in).bit_length() - 1)  # a power of two, as J divides N
        for outputs in [most >> halvings for halvings in range(most.bit_length() if p_in == most_in else 1)]:
            answers = -(-geometry.rows // min(outputs, geometry.rows))
            yield Layout(geometry, replace(packing, p_in=p_in, p_out=-(-geometry.rows // answers)))
