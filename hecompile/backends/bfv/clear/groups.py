"""The product of polynomials and weights under `clear`, as one matrix product.

An answer is the sum over outputs j, and over channels and taps k, of w[j, k] X^(j J) X^-shift_k P modulo X^N + 1, where J is the
layout's `output_stride`. J divides N: coefficients form G = N / J groups, and multiplying by X^(j J) moves whole groups.

    answer[g] = sum over groups d and terms k of W[g, (k, d)] T_k[d],   W[g, (k, d)] = w[g - d, k], or -w[g - d + G, k] if g < d

T_k is the rolled polynomial X^-shift_k P of term k. Only the first A coefficients of a group hold results, A being the layout's
`channel_stride`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.backends.bfv.packing import Layout

__all__ = ["extend", "gather_terms", "group_matrix"]

Array = npt.NDArray[Any]


def extend(words: Array, negative: Array) -> Array:
    """(..., N) -> (..., 3N): `words` between two copies of `negative`. Every negacyclic roll of the words is a slice of it."""
    return np.concatenate([words, negative, words], axis=-1)


def gather_terms(extended: Array, layout: Layout, terms: range, width: int) -> Array:
    """The first `width` coefficients of every group of the rolled polynomials of terms k = (channel, tap).

    From (L, uploads, 3N), made by `extend`, to (L, len(terms) G, width).
    """
    dimension, p_in, taps = layout.packing.dimension, layout.packing.p_in, layout.shifts.shape[1]
    outer, inner, step = extended.strides
    shape = (*extended.shape[:2], 2 * dimension, layout.coefficient_groups, width)  # a view of every roll, which copies none
    rolls = np.lib.stride_tricks.as_strided(
        extended, shape, (outer, inner, step, layout.output_stride * step, step), writeable=False
    )
    starts = (layout.shifts % (2 * dimension)).reshape(1, -1)[:, terms.start : terms.stop]
    limbs, uploads = np.arange(len(extended))[:, None], np.arange(terms.start, terms.stop)[None] // (taps * p_in)
    gathered: Array = rolls[limbs, uploads, starts]
    return gathered.reshape(len(extended), -1, width)


def group_matrix(weights: Array, layout: Layout, answers: range, terms: range) -> Array:
    """Return the matrix W of the module's docstring for these answers and terms, of shape (len(answers) G, len(terms) G).

    It is made from weights (rows, C', K), and is zero where the last answer holds fewer than `p_out` outputs.
    """
    groups, p_out = layout.coefficient_groups, layout.packing.p_out
    rows = weights.reshape(len(weights), -1)[answers.start * p_out : answers.stop * p_out, terms.start : terms.stop]
    padded = np.zeros((len(answers) * p_out, len(terms)), weights.dtype)
    padded[: len(rows)] = rows
    around = np.zeros((len(answers), len(terms), 2 * groups), weights.dtype)  # at G + i: w[i], or -w[i + G] for i < 0
    around[..., groups : groups + p_out] = padded.reshape(len(answers), p_out, len(terms)).swapaxes(1, 2)
    around[..., :groups] = -around[..., groups:]
    outer, inner, step = around.strides
    shape, strides = (len(answers), groups, len(terms), groups), (outer, step, inner, -step)
    differences = np.lib.stride_tricks.as_strided(around[..., groups:], shape, strides, writeable=False)
    return differences.reshape(len(answers) * groups, len(terms) * groups)
