"""The part of a layer that the server computes in the clear: released channels or tiles, as integers of few bits.

    S[e, o, i, j] = step * sum over c, k of weights[o, c, k] * r[e, c, i + taps[k][0], j + taps[k][1]]

r is zero where a tile is encrypted. On the wire an integer r takes `bits` bits, offset to be unsigned. The sum is exact; `bfv` adds
that over channels, encoded, to `b` of the answers. That over tiles travels beside the answers, t_bits bits a sum, offset likewise:
it is there for every result, also where no encrypted tile takes part.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hecompile.backends.bfv.program import LayerProgram
from hecompile.backends.words import pack_bits, packed_bytes, unpack_bits
from hecompile.errors import ProtocolError
from hecompile.ir.linear import correlate

__all__ = [
    "pack_released", "pack_sums", "released_bytes", "released_sums", "sums_bytes", "unpack_released", "unpack_sums",
]  # fmt: skip

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


def released_sums(layer: LayerProgram, released: Integers, weights: npt.NDArray[np.int8]) -> Integers:
    """S for weights (rows, C', K): (E, rows, *grid). In doubles, which are exact: sums are below 2^53."""
    sums = correlate(released.astype(np.float64), weights.astype(np.float64), layer.geometry.taps, layer.geometry.grid)
    result: Integers = sums.astype(np.int64) * layer.split.steps(layer.parameters.limit)[0]
    return result
