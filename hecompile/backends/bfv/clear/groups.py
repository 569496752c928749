"""The linear algebra of `clear`: rolled polynomials times weights, as one matrix product.

An answer is the sum over its outputs j, and over channels and taps k, of w[j, k] X^(j J) X^-shift_k P, negacyclic (X^N = -1). The
jump J divides N, so that coefficients form G = N / J groups, and moving by j J moves whole groups:

    answer[g] = sum over groups d and terms k of W[g, (k, d)] T_k[d],   W[g, (k, d)] = w[g - d, k], or -w[g - d + G, k] below zero

with T_k the rolled polynomial of term k. The product leaves the answer itself: nothing is to be added up behind it.

An answer is read in the first A coefficients of a group only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.backends.bfv.packing import Layout

__all__ = ["extend", "gather_terms", "group_matrix"]

Array = npt.NDArray[Any]


def extend(words: Array, negative: Array) -> Array:
    """(..., N) -> (..., 3N): every negacyclic roll is a slice of it."""
    return np.concatenate([words, negative, words], axis=-1)


def gather_terms(extended: Array, layout: Layout, terms: range, width: int) -> Array:
    """The first `width` coefficients of every group of the rolled terms k = (channel, tap), from (L, uploads, 3N):
    (L, len(terms) G, width)."""
    dimension, p_in, taps = layout.packing.dimension, layout.packing.p_in, layout.shifts.shape[1]
    outer, inner, step = extended.strides
    shape = (*extended.shape[:2], 2 * dimension, layout.groups, width)  # every roll, without copying any
    rolls = np.lib.stride_tricks.as_strided(extended, shape, (outer, inner, step, layout.jump * step, step), writeable=False)
    starts = (layout.shifts % (2 * dimension)).reshape(1, -1)[:, terms.start : terms.stop]
    limbs, uploads = np.arange(len(extended))[:, None], np.arange(terms.start, terms.stop)[None] // (taps * p_in)
    gathered: Array = rolls[limbs, uploads, starts]
    return gathered.reshape(len(extended), -1, width)


def group_matrix(weights: Array, layout: Layout, answers: range, terms: range) -> Array:
    """Weights (rows, C', K) -> W of some answers and terms: (len(answers) G, len(terms) G). Zero where an answer is not full."""
    groups, p_out = layout.groups, layout.packing.p_out
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
