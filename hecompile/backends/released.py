"""The part of a layer that the server computes in the clear: released channels, as integers of few bits.

    S[e, o, i, j] = step * sum over c, k of weights[o, c, k] * r[e, c, i + taps[k][0], j + taps[k][1]]

On the wire an integer r takes `bits` bits, offset to be unsigned. The sum is exact; `bfv` adds it, encoded, to `b` of the answers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hecompile.backends.bfv.bits import pack_bits, packed_bytes, unpack_bits
from hecompile.backends.bfv.product import Kernel
from hecompile.backends.fold import CHUNK_BYTES
from hecompile.backends.integer import LayerProgram
from hecompile.errors import ProtocolError

__all__ = ["pack_released", "released_bytes", "released_sums", "unpack_released"]

Integers = npt.NDArray[np.int64]


def _shape(layer: LayerProgram, batch: int) -> tuple[int, ...]:
    """Released entries of a request: (E, C', H, W)."""
    geometry = layer.geometry
    channels = len(layer.split.released) * geometry.down[0] * geometry.down[1]
    return (batch * layer.multiple, channels, *geometry.picture[1:])


def released_bytes(layer: LayerProgram, batch: int) -> int:
    """Bytes of the released entries of a request."""
    return packed_bytes(int(np.prod(_shape(layer, batch))), layer.split.bits)


def pack_released(layer: LayerProgram, released: Integers) -> bytes:
    """Released integers (E, C', H, W) -> bytes."""
    bits = layer.split.bits
    return pack_bits((released + (1 << (bits - 1))).astype(np.uint64), bits)


def unpack_released(data: memoryview, layer: LayerProgram, batch: int) -> Integers:
    """The inverse. Raises `ProtocolError` for integers that no quantiser gives."""
    shape, bits = _shape(layer, batch), layer.split.bits
    words = unpack_bits(data, int(np.prod(shape)), bits)
    integers: Integers = words.astype(np.int64).reshape(shape) - (1 << (bits - 1))
    most = layer.split.steps(layer.parameters.limit)[1]
    if np.abs(integers).max(initial=0) > most:
        raise ProtocolError(f"layer of {layer.input}: a released entry is beyond {most}")
    return integers


def released_sums(layer: LayerProgram, released: Integers, weights: npt.NDArray[np.int8], kernel: Kernel) -> Integers:
    """S for weights (rows, C', K): (E, rows, *grid)."""
    geometry, bits = layer.geometry, layer.split.bits
    offset = 1 << (bits - 1)
    limbs = _limbs((released + offset).astype(np.uint16), bits, kernel.limb_bits)  # zero is `offset` here, also around the picture
    borders = [offset >> (limb * kernel.limb_bits) & ((1 << kernel.limb_bits) - 1) for limb in range(len(limbs))]
    matrix = weights.reshape(len(weights), -1)
    elements, (height, width) = len(released), geometry.grid
    step = max(1, min(kernel.max_k, CHUNK_BYTES // max(1, len(limbs) * elements * height * width)))
    total = np.zeros((len(weights), elements * height * width), np.int64)
    for start in range(0, matrix.shape[1], step):
        terms = range(start, min(start + step, matrix.shape[1]))
        operand = _windows(limbs, borders, layer, terms)
        sums = kernel.product(operand, np.ascontiguousarray(matrix[:, terms.start : terms.stop]))  # (L, rows, columns)
        for limb, part in enumerate(sums):
            total += part.astype(np.int64) << np.int64(limb * kernel.limb_bits)
    total -= offset * matrix.astype(np.int64).sum(axis=1, keepdims=True)
    result = total.reshape(len(weights), elements, height, width).transpose(1, 0, 2, 3)
    return result * layer.split.steps(layer.parameters.limit)[0]


def _limbs(values: npt.NDArray[np.uint16], bits: int, limb_bits: int) -> npt.NDArray[np.uint8]:
    """Values below 2^bits -> (L, ...) limbs, lowest first."""
    mask = (1 << limb_bits) - 1
    return np.stack([(values >> (limb * limb_bits) & mask).astype(np.uint8) for limb in range(-(-bits // limb_bits))])


def _windows(limbs: npt.NDArray[np.uint8], borders: list[int], layer: LayerProgram, terms: range) -> npt.NDArray[np.uint8]:
    """Terms k = (channel, tap) of (L, E, C', H, W) pictures: (L, len(terms), E * grid)."""
    taps, (height, width) = layer.geometry.taps, layer.geometry.grid
    low = [min(0, *(tap[axis] for tap in taps)) for axis in (0, 1)]
    high = [max(0, layer.geometry.grid[axis] + max(tap[axis] for tap in taps) - limbs.shape[3 + axis]) for axis in (0, 1)]
    around = ((0, 0), (0, 0), (-low[0], high[0]), (-low[1], high[1]))
    padded = np.stack([np.pad(limb, around, constant_values=border) for limb, border in zip(limbs, borders, strict=True)])
    result = np.empty((len(limbs), len(terms), limbs.shape[1], height, width), np.uint8)
    for place, term in enumerate(terms):
        channel, tap = divmod(term, len(taps))
        y, x = taps[tap][0] - low[0], taps[tap][1] - low[1]
        result[:, place] = padded[:, :, channel, y : y + height, x : x + width]
    return result.reshape(len(limbs), len(terms), -1)
