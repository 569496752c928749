"""Multiplies the revealed part of a large layer in the core, with plain integers in place of ciphertext words.

The core's product is exact modulo q for any words. Words that are plain integers therefore give the exact sums, if those are below
q/2 in absolute value. No `a` is needed. Small layers are faster as one product of floats (`revealed_sums`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hecompile import _core
from hecompile.backends.bfv.forms import limbs_of_b_seconds
from hecompile.backends.bfv.packing import Layout, layouts, row_norms
from hecompile.backends.bfv.parameters import DIMENSIONS
from hecompile.backends.bfv.program import LayerProgram
from hecompile.backends.bfv.rings import Q_BITS, TABLE_T_BITS, prime
from hecompile.backends.words import pack_bits, unpack_bits
from hecompile.errors import InternalError
from hecompile.ir.linear import Geometry

__all__ = ["RevealedProduct", "in_core"]

LEAST_MACS = 1 << 24  # multiply-adds of a picture from which on packing its entries pays off

Integers = npt.NDArray[np.int64]


def in_core(layer: LayerProgram, weights: npt.NDArray[np.int8]) -> bool:
    """Whether `RevealedProduct` computes a layer's revealed sums: if it is large, and a modulus of the core holds the sums."""
    return (
        weights.min(initial=0) > -128
        and weights.size * int(np.prod(layer.geometry.grid)) >= LEAST_MACS
        and _q_bits(layer, weights) <= Q_BITS[1]
    )


class RevealedProduct:
    """Multiplies the revealed part of one layer's input by its weights, at one batch size. Immutable."""

    def __init__(self, layer: LayerProgram, batch: int, weights: npt.NDArray[np.int8]) -> None:
        geometry, self._q_bits = layer.geometry, _q_bits(layer, weights)
        self._q, self._step = prime(self._q_bits, TABLE_T_BITS[0]), layer.split.steps(layer.parameters.limit)[0]
        revealed_geometry = _geometry(geometry, weights.shape[1])
        candidates = next(
            filter(None, (layouts(revealed_geometry, dimension, batch * layer.images_per_sample) for dimension in DIMENSIONS))
        )
        self._layout = min(candidates, key=lambda layout: limbs_of_b_seconds(layout, self._q_bits))
        self._core = _core_layout(self._layout, self._q)
        self._weights = _core.make_weights(self._core, np.ascontiguousarray(weights), False, 0)

    def sums(self, revealed: Integers) -> Integers:
        """S, (E, rows, *grid), as `revealed_sums` returns it, for integers (E, C', H, W) that a quantiser gives."""
        layout, packing = self._layout, self._layout.packing
        polynomials = layout.pack(revealed)
        words = pack_bits(np.where(polynomials < 0, polynomials + self._q, polynomials).astype(np.uint64), self._q_bits)
        answers = bytearray(self._core.down_b_bytes)
        if (reason := _core.evaluate(self._core, self._weights, words, None, b"", None, answers, 0)) is not None:
            raise InternalError(f"a product of plain integers: {reason}")
        count = layout.blocks * layout.answers * layout.gather_count
        read = unpack_bits(memoryview(answers), count, self._q_bits).astype(np.int64)
        read[read > self._q // 2] -= self._q
        result: Integers = layout.gather(read.reshape(layout.blocks, layout.answers, -1))[: packing.elements] * self._step
        return result


def _q_bits(layer: LayerProgram, weights: npt.NDArray[np.int8]) -> int:
    """Bits of the smallest modulus that holds all sums on both sides of zero."""
    most = layer.split.steps(layer.parameters.limit)[1] * int(row_norms(weights)[0].max(initial=0))
    return max(Q_BITS[0], (2 * most + 1).bit_length() + 1)


def _geometry(geometry: Geometry, channels: int) -> Geometry:
    """A plain convolution of `channels` channels of the picture, with the layer's taps, rows and grid."""
    _, height, width = geometry.picture
    return Geometry(
        tokens=False, channels=channels, size=(height, width), down=(1, 1), taps=geometry.taps, grid=geometry.grid, up=(1, 1),
        outputs=geometry.rows, out_size=geometry.grid,
    )  # fmt: skip


def _core_layout(layout: Layout, q: int) -> _core.Layout:
    packing, geometry = layout.packing, layout.geometry
    return _core.make_layout(
        packing.dimension, q, TABLE_T_BITS[0], packing.elements, geometry.picture, (geometry.rows, *geometry.grid),
        np.array(geometry.taps, np.int32), (packing.images_per_poly, packing.band_rows, packing.p_in, packing.p_out), (0, 0),
    )  # fmt: skip
