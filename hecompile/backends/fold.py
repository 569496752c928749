"""The linear algebra that `bfv` and `clear` share: rolled polynomials times weights, folded into answers.

For every output (answer, j): the sum over channels and taps of w X^-shift P, then times X^(j p_in A), added up over j. All of it
negacyclic (X^N = -1).

`a` of an answer is needed everywhere, `b` only where the answer is read: at the outputs' own areas, j p_in A + [0, A). The terms of
output i fall there from areas (j - i) p_in A + [0, A) of its sum, so only those 2 p_out - 1 windows of `b` are multiplied.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.backends.packing import Layout

__all__ = ["CHUNK_BYTES", "extend", "fold", "fold_windows", "rolled", "rolled_windows", "weight_matrix"]

Array = npt.NDArray[Any]

CHUNK_BYTES = 96 << 20  # of rolled polynomials at a time, and of their sums


def weight_matrix(weights: npt.NDArray[np.int8], layout: Layout) -> npt.NDArray[np.int8]:
    """(rows, C', K) -> (answers p_out, C' K), zero rows where the last answer is not full."""
    matrix = np.zeros((layout.answers * layout.packing.p_out, weights.shape[1] * weights.shape[2]), np.int8)
    matrix[: len(weights)] = weights.reshape(len(weights), -1)
    return matrix


def extend(words: Array, negative: Array) -> Array:
    """(..., N) -> (..., 4N): every negacyclic roll, and every run of windows, is a slice of it."""
    return np.concatenate([words, negative, words, negative], axis=-1)


def _starts(layout: Layout, back: int = 0) -> npt.NDArray[np.int64]:
    """Where a term's roll begins in an extended polynomial, `back` coefficients earlier."""
    return ((layout.shifts - back) % (2 * layout.packing.dimension)).reshape(-1)


def rolled(extended: Array, layout: Layout, terms: range, into: Array) -> None:
    """Terms k = (channel, tap) of (L, uploads, 4N) extended polynomials: (L, len(terms), N)."""
    dimension, p_in, taps = layout.packing.dimension, layout.packing.p_in, layout.shifts.shape[1]
    starts = _starts(layout)
    for place, term in enumerate(terms):
        start = starts[term]
        into[:, place] = extended[:, term // taps // p_in, start : start + dimension]


def rolled_windows(extended: Array, layout: Layout, terms: range, into: Array) -> None:
    """The windows of the same: (L, len(terms), windows, A)."""
    p_in, p_out, taps, area = layout.packing.p_in, layout.packing.p_out, layout.shifts.shape[1], layout.area
    starts = _starts(layout, back=(p_out - 1) * p_in * area)
    jump, length = p_in * area, extended.shape[-1] - (layout.windows - 1) * p_in * area - area + 1
    outer, inner, step = extended.strides
    shape = (*extended.shape[:2], length, layout.windows, area)  # all runs of windows, without copying any
    runs = np.lib.stride_tricks.as_strided(extended, shape, (outer, inner, step, jump * step, step), writeable=False)
    for place, term in enumerate(terms):
        into[:, place] = runs[:, term // taps // p_in, starts[term]]


def fold(sums: Array, layout: Layout, into: Array) -> None:
    """Add (L, answers p_out, N) to (L, answers, N), output j shifted up by j p_in A."""
    packing = layout.packing
    split = sums.reshape(len(sums), -1, packing.p_out, packing.dimension)
    into += split[:, :, 0]
    for j in range(1, packing.p_out):
        shift = j * packing.p_in * layout.area
        into[..., shift:] += split[:, :, j, : packing.dimension - shift]
        into[..., :shift] -= split[:, :, j, packing.dimension - shift :]


def fold_windows(sums: Array, layout: Layout, into: Array) -> None:
    """Add (L, answers p_out, windows A) to (L, answers, p_out, A): the windows of output i that fall into the outputs' areas."""
    p_out = layout.packing.p_out
    split = sums.reshape(len(sums), -1, p_out, layout.windows, layout.area)
    for i in range(p_out):
        into += split[:, :, i, p_out - 1 - i : layout.windows - i]
