"""The part of a layer that the server computes in the clear: revealed channels or tiles, as integers of few bits.

    S[e, o, i, j] = step * sum over c, k of weights[o, c, k] * r[e, c, i + taps[k][0], j + taps[k][1]]

r is a revealed integer, or zero where a tile is encrypted. A request carries r + 2^(bits - 1) in `bits` bits. The sums are exact.
With revealed channels, `bfv` encodes the sums and adds them to `b` of the answers. With tiles, every result has a sum, also where
no encrypted tile contributes, so the sums are sent beside the answers: S + t/2, in t_bits bits each.
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
    "pack_revealed", "pack_sums", "revealed_bytes", "revealed_sums", "sums_bytes", "unpack_revealed", "unpack_sums",
]  # fmt: skip

Integers = npt.NDArray[np.int64]
ONE_THREAD = 1 << 24  # multiply-adds of a picture below which the product uses one thread


def _shape(layer: LayerProgram, batch: int) -> tuple[int, ...]:
    """The shape of the revealed entries of a request."""
    return layer.split.revealed_shape(layer.geometry, batch * layer.images_per_sample)


def revealed_bytes(layer: LayerProgram, batch: int) -> int:
    """Bytes of the revealed entries of a request."""
    return packed_bytes(int(np.prod(_shape(layer, batch))), layer.split.bits)


def pack_revealed(layer: LayerProgram, revealed: Integers) -> bytes:
    """Pack revealed integers, shaped as `ChannelSplit.revealed_entries` returns them, to bytes."""
    bits = layer.split.bits
    return pack_bits((revealed + (1 << (bits - 1))).astype(np.uint64), bits)


def unpack_revealed(data: memoryview, layer: LayerProgram, batch: int) -> Integers:
    """Unpack revealed integers; with tiles, put them into pictures that are zero elsewhere: (E, C', H, W).

    Raises `ProtocolError` for integers that no quantiser gives.
    """
    shape, bits = _shape(layer, batch), layer.split.bits
    words = unpack_bits(data, int(np.prod(shape)), bits)
    integers: Integers = words.astype(np.int64).reshape(shape) - (1 << (bits - 1))
    most = layer.split.steps(layer.parameters.limit)[1]
    if np.abs(integers).max(initial=0) > most:
        raise ProtocolError(f"layer of {layer.input}: a revealed entry is beyond {most}")
    tiles = layer.split.tiles
    return tiles.spread(integers, tiles.revealed) if tiles else integers


def _sums_shape(layer: LayerProgram, batch: int) -> tuple[int, ...]:
    return (batch * layer.images_per_sample, layer.geometry.rows, *layer.geometry.grid)


def sums_bytes(layer: LayerProgram, batch: int) -> int:
    """Bytes of the sums that are sent beside a layer's answers: 0 without tiles."""
    return packed_bytes(int(np.prod(_sums_shape(layer, batch))), layer.parameters.t_bits) if layer.split.tiles else 0


def pack_sums(layer: LayerProgram, sums: Integers) -> bytes:
    """Pack S (E, rows, *grid) to bytes. S is at most t/2, since the whole result is."""
    return pack_bits((sums + (1 << (layer.parameters.t_bits - 1))).astype(np.uint64), layer.parameters.t_bits)


def unpack_sums(data: memoryview, layer: LayerProgram, batch: int) -> Integers | None:
    """Unpack S, (E, rows, *grid); None for a layer without tiles."""
    if not layer.split.tiles:
        return None
    shape, bits = _sums_shape(layer, batch), layer.parameters.t_bits
    return unpack_bits(data, int(np.prod(shape)), bits).astype(np.int64).reshape(shape) - (1 << (bits - 1))


def revealed_sums(layer: LayerProgram, revealed: Integers, weights: npt.NDArray[np.int8]) -> Integers:
    """S, (E, rows, *grid), for weights (rows, C', K). Exact: in float32 if no sum passes 2^24, else in float64."""
    step, most = layer.split.steps(layer.parameters.limit)
    kind = np.float32 if most * int(row_norms(weights)[0].max(initial=0)) < 2**24 else np.float64
    geometry, matrix = layer.geometry, weights.reshape(len(weights), -1).astype(kind)
    result = np.empty((len(revealed), len(weights), *geometry.grid), np.int64)
    threads = 1 if matrix.size * result[0, 0].size < ONE_THREAD else None
    with _thread_pools().limit(limits=threads, user_api="blas"):  # a second thread would mostly wait, which costs CPU time
        for picture, sums in zip(revealed, result, strict=True):
            sums[...] = (matrix @ _windows(picture.astype(kind), geometry)).reshape(sums.shape)
    result *= step
    return result


@cache
def _thread_pools() -> threadpoolctl.ThreadpoolController:
    return threadpoolctl.ThreadpoolController()


def _windows(picture: Array, geometry: Geometry) -> Array:
    """What every tap reads of a picture (C', H, W), zero outside: (C' K, points of the grid)."""
    height, width = geometry.grid
    windows = np.zeros((len(picture), len(geometry.taps), height, width), picture.dtype)
    for k, (dy, dx) in enumerate(geometry.taps):
        top, left = max(0, -dy), max(0, -dx)
        bottom, right = min(height, picture.shape[1] - dy), min(width, picture.shape[2] - dx)
        if top < bottom and left < right:
            windows[:, k, top:bottom, left:right] = picture[:, top + dy : bottom + dy, left + dx : right + dx]
    return windows.reshape(-1, height * width)
