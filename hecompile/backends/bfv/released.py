"""The part of a layer that the server computes in the clear: released channels or tiles, as integers of few bits.

    S[e, o, i, j] = step * sum over c, k of weights[o, c, k] * r[e, c, i + taps[k][0], j + taps[k][1]]

r is zero where a tile is encrypted. On the wire an integer r takes `bits` bits, offset to be unsigned. The sum is exact; `bfv` adds
that over channels, encoded, to `b` of the answers. That over tiles travels beside the answers, t_bits bits a sum, offset likewise:
it is there for every result, also where no encrypted tile takes part.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import threadpoolctl

from hecompile.backends.bfv.packing import row_norms
from hecompile.backends.bfv.program import LayerProgram
from hecompile.backends.words import pack_bits, packed_bytes, unpack_bits
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array
from hecompile.ir.linear import Geometry

__all__ = [
    "pack_released", "pack_sums", "released_bytes", "released_sums", "sums_bytes", "unpack_released", "unpack_sums",
]  # fmt: skip

Integers = npt.NDArray[np.int64]
ONE_THREAD = 1 << 24  # multiply-adds of a picture below which a product takes one thread


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


def released_sums(layer: LayerProgram, released: Integers, weights: npt.NDArray[np.int8]) -> Integers:
    """S for weights (rows, C', K): (E, rows, *grid). In floats, exactly: in single precision where no sum passes 2^24."""
    step, most = layer.split.steps(layer.parameters.limit)
    kind = np.float32 if most * int(row_norms(weights)[0].max(initial=0)) < 2**24 else np.float64
    geometry, matrix = layer.geometry, weights.reshape(len(weights), -1).astype(kind)
    result = np.empty((len(released), len(weights), *geometry.grid), np.int64)
    threads = 1 if matrix.size * result[0, 0].size < ONE_THREAD else None
    with _thread_pools().limit(limits=threads, user_api="blas"):  # a second one waits for longer than it computes, and that counts
        for picture, sums in zip(released, result, strict=True):
            sums[...] = (matrix @ _windows(picture.astype(kind), geometry)).reshape(sums.shape)
    result *= step
    return result


@cache
def _thread_pools() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()


def _windows(picture: Array, geometry: Geometry) -> Array:
    """What every tap meets of a picture (C', H, W), zero outside: (C' K, positions of the grid)."""
    height, width = geometry.grid
    windows = np.zeros((len(picture), len(geometry.taps), height, width), picture.dtype)
    for k, (dy, dx) in enumerate(geometry.taps):
        top, left = max(0, -dy), max(0, -dx)
        bottom, right = min(height, picture.shape[1] - dy), min(width, picture.shape[2] - dx)
        if top < bottom and left < right:
            windows[:, k, top:bottom, left:right] = picture[:, top + dy : bottom + dy, left + dx : right + dx]
    return windows.reshape(-1, height * width)
