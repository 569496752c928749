"""The server's product in NumPy: words in pieces of 16 bits, whose sums are exact in doubles, put together in Python's integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.backends.bfv.clear.groups import extend, gather_terms, group_matrix
from hecompile.backends.bfv.packing import Layout

__all__ = ["answers", "rounded"]

Words = npt.NDArray[np.uint64]
Array = npt.NDArray[Any]


def answers(words: Words, weights: npt.NDArray[np.int8], layout: Layout, q: int) -> Array:
    """Uploads (uploads, N) below q and weights (rows, C', K) -> whole answers (answers, N), Python's integers below q."""
    dimension, terms = layout.packing.dimension, range(layout.shifts.size)
    matrix = group_matrix(weights, layout, range(layout.answers), terms).astype(np.float64)
    total: Array = np.zeros((layout.answers, dimension), object)
    for piece in range(4):
        digits = (words >> np.uint64(16 * piece) & np.uint64(0xFFFF)).astype(np.float64)
        rolled = gather_terms(extend(digits, -digits)[None], layout, terms, layout.output_stride)[0]
        sums = (matrix @ rolled).reshape(layout.answers, dimension)
        total = total + sums.astype(np.int64).astype(object) * (1 << 16 * piece)
    return total % q


def rounded(words: Array, bits: int, q_bits: int) -> Array:
    """Without their low bits: what rounds up to 2^q_bits is zero."""
    return (words + (1 << bits >> 1) >> bits) % (1 << q_bits - bits)
