"""The part of a layer that the server computes in the clear: released channels or tiles, as integers of few bits.

    S[e, o, i, j] = step * sum over c, k of weights[o, c, k] * r[e, c, i + taps[k][0], j + taps[k][1]]

r is zero where a tile is encrypted. On the wire an integer r takes `bits` bits, offset to be unsigned. The sum is exact; `bfv` adds
that over channels, encoded, to `b` of the answers. That over tiles travels beside the answers, t_bits bits a sum, offset likewise:
it is there for every result, also where no encrypted tile takes part.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hecompile.backends.bfv.groups import CHUNK_BYTES
from hecompile.backends.bfv.product import MAX_K, Held, Kernel
from hecompile.backends.bfv.program import LayerProgram
from hecompile.backends.words import pack_bits, packed_bytes, unpack_bits
from hecompile.errors import ProtocolError
from hecompile.ir.linear import correlate

__all__ = [
    "kernel_sums", "pack_released", "pack_sums", "released_bytes", "released_sums", "sums_bytes", "unpack_released", "unpack_sums",
]  # fmt: skip

SMALL_MACS = 8_000_000

Integers = npt.NDArray[np.int64]


def _shape(layer: LayerProgram, batch: int) -> tuple[int, ...]:
    """Released entries of a request."""
    return layer.split.shown_shape(layer.geometry, batch * layer.multiple)


def released_bytes(layer: LayerProgram, batch: int) -> int:
    """Bytes of the released entries of a request."""
    return packed_bytes(int(np.prod(_shape(layer, batch))), layer.split.bits)


def pack_released(layer: LayerProgram, released: Integers) -> bytes:
    """Released integers (see `ChannelSplit.shown`) -> bytes."""
    bits = layer.split.bits
    return pack_bits((released + (1 << (bits - 1))).astype(np.uint64), bits)


def unpack_released(data: memoryview, layer: LayerProgram, batch: int) -> Integers:
    """The inverse, tiles put into pictures that are zero elsewhere: (E, C', H, W).

    Raises `ProtocolError` for integers that no quantiser gives.
    """
    shape, bits = _shape(layer, batch), layer.split.bits
    words = unpack_bits(data, int(np.prod(shape)), bits)
    integers: Integers = words.astype(np.int64).reshape(shape) - (1 << (bits - 1))
    most = layer.split.steps(layer.parameters.limit)[1]
    if np.abs(integers).max(initial=0) > most:
        raise ProtocolError(f"layer of {layer.input}: a released entry is beyond {most}")
    tiles = layer.split.tiles
    return tiles.spread(integers, tiles.released) if tiles else integers


def _sums_shape(layer: LayerProgram, batch: int) -> tuple[int, ...]:
    return (batch * layer.multiple, layer.geometry.rows, *layer.geometry.grid)


def sums_bytes(layer: LayerProgram, batch: int) -> int:
    """Bytes of the sums that travel beside a layer's answers: with tiles only."""
    return packed_bytes(int(np.prod(_sums_shape(layer, batch))), layer.parameters.t_bits) if layer.split.tiles else 0


def pack_sums(layer: LayerProgram, sums: Integers) -> bytes:
    """S (E, rows, *grid) -> bytes. The message bound is t/2 for all of a layer, so it is for a part."""
    return pack_bits((sums + (1 << (layer.parameters.t_bits - 1))).astype(np.uint64), layer.parameters.t_bits)


def unpack_sums(data: memoryview, layer: LayerProgram, batch: int) -> Integers | None:
    """The inverse; None for a layer without tiles."""
    if not layer.split.tiles:
        return None
    shape, bits = _sums_shape(layer, batch), layer.parameters.t_bits
    return unpack_bits(data, int(np.prod(shape)), bits).astype(np.int64).reshape(shape) - (1 << (bits - 1))


def released_sums(layer: LayerProgram, released: Integers, weights: npt.NDArray[np.int8], kernel: Kernel) -> Integers:
    """S for weights (rows, C', K): (E, rows, *grid). Small ones in doubles, which are exact below 2^53 and need no limbs."""
    geometry = layer.geometry
    if weights.size * len(released) * geometry.grid[0] * geometry.grid[1] > SMALL_MACS:
        return kernel_sums(layer, released, weights, kernel)
    sums = correlate(released.astype(np.float64), weights.astype(np.float64), geometry.taps, geometry.grid)
    result: Integers = sums.astype(np.int64) * layer.split.steps(layer.parameters.limit)[0]
    return result


def kernel_sums(layer: LayerProgram, released: Integers, weights: npt.NDArray[np.int8], kernel: Kernel) -> Integers:
    """The same by the integer product of ciphertext limbs."""
    bits, (height, width) = layer.split.bits, layer.geometry.grid
    offset = 1 << (bits - 1)
    limbs = kernel.hold(_padded_limbs(layer, (released + offset).astype(np.uint16), kernel.limb_bits))
    columns, taps = len(released) * height * width, weights.shape[2]
    step = max(1, min(MAX_K // taps, CHUNK_BYTES // (len(limbs) * taps * columns)))
    total = np.zeros((len(weights), columns), np.int64)
    for start in range(0, weights.shape[1], step):
        channels = slice(start, start + step)
        matrix = np.ascontiguousarray(weights[:, channels].reshape(len(weights), -1))
        for limb, sums in enumerate(kernel.product(_windows(limbs[:, :, channels], layer), matrix)):  # (rows, columns) each
            total += sums.astype(np.int64) << np.int64(limb * kernel.limb_bits)
    total -= offset * weights.astype(np.int64).sum(axis=(1, 2))[:, None]
    result = total.reshape(len(weights), -1, height, width).transpose(1, 0, 2, 3)
    return result * layer.split.steps(layer.parameters.limit)[0]


def _padded_limbs(layer: LayerProgram, values: npt.NDArray[np.uint16], limb_bits: int) -> npt.NDArray[np.uint8]:
    """Offset entries (E, C', H, W) -> limbs (L, E, C', ...), lowest first, with the zeros that taps reach around the picture."""
    taps, grid = layer.geometry.taps, layer.geometry.grid
    low = [min(0, *(tap[axis] for tap in taps)) for axis in (0, 1)]
    high = [max(0, grid[axis] + max(tap[axis] for tap in taps) - values.shape[2 + axis]) for axis in (0, 1)]
    zero = 1 << (layer.split.bits - 1)
    padded = np.pad(values, ((0, 0), (0, 0), (-low[0], high[0]), (-low[1], high[1])), constant_values=zero)
    mask = (1 << limb_bits) - 1
    return np.stack([(padded >> (limb * limb_bits) & mask).astype(np.uint8) for limb in range(-(-layer.split.bits // limb_bits))])


def _windows(limbs: Held, layer: LayerProgram) -> Held:
    """Padded limbs (L, E, C', ...) -> the terms (channel, tap) of a product: (L, C' K, E * grid)."""
    taps, (height, width) = layer.geometry.taps, layer.geometry.grid
    low = [min(0, *(tap[axis] for tap in taps)) for axis in (0, 1)]
    channels_first = limbs.transpose(0, 2, 1, 3, 4)
    result = np.empty((*channels_first.shape[:2], len(taps), limbs.shape[1], height, width), limbs.dtype)
    for place, tap in enumerate(taps):
        y, x = tap[0] - low[0], tap[1] - low[1]
        result[:, :, place] = channels_first[..., y : y + height, x : x + width]
    return result.reshape(len(limbs), -1, limbs.shape[1] * height * width)
