"""The linear algebra that `bfv` and `clear` share: rolled polynomials times weights, folded into answers.

For every output (answer, j): the sum over channels and taps of w X^-shift P, then times X^(j p_in A), added up over j. All of it
negacyclic (X^N = -1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.backends.packing import Layout

__all__ = ["fold", "rolled", "weight_matrix"]

Array = npt.NDArray[Any]


def weight_matrix(weights: npt.NDArray[np.int8], layout: Layout) -> npt.NDArray[np.int8]:
    """(rows, C', K) -> (answers p_out, C' K), zero rows where the last answer is not full."""
    matrix = np.zeros((layout.answers * layout.packing.p_out, weights.shape[1] * weights.shape[2]), np.int8)
    matrix[: len(weights)] = weights.reshape(len(weights), -1)
    return matrix


def rolled(extended: Array, layout: Layout, terms: range) -> Array:
    """Terms k = (channel, tap) of (L, P, uploads, 3N) polynomials, extended by their negative and themselves:
    (L, len(terms), P, N), contiguous."""
    limbs, parts = extended.shape[:2]
    dimension, p_in = layout.packing.dimension, layout.packing.p_in
    starts = (layout.shifts % (2 * dimension)).reshape(-1)
    taps = layout.shifts.shape[1]
    result = np.empty((limbs, len(terms), parts, dimension), extended.dtype)
    for place, term in enumerate(terms):
        start = starts[term]
        result[:, place] = extended[:, :, term // taps // p_in, start : start + dimension]
    return result


def fold(sums: Array, layout: Layout, into: Array) -> None:
    """Add (L, answers p_out, P, N) to (L, answers, P, N), output j shifted up by j p_in A."""
    packing = layout.packing
    split = sums.reshape(len(sums), -1, packing.p_out, *sums.shape[2:])
    into += split[:, :, 0]
    for j in range(1, packing.p_out):
        shift = j * packing.p_in * layout.area
        into[..., shift:] += split[:, :, j, :, : packing.dimension - shift]
        into[..., :shift] -= split[:, :, j, :, packing.dimension - shift :]
