"""The server's work: a public linear map on ciphertext words, exact modulo q. No secret, no randomness.

Words are extended to [w, -w, w, -w] so that every negacyclic roll is a slice, cut into limbs of 7 or 8 bits, multiplied by the int8
weights with an exact integer kernel, folded into answers and put together modulo q.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.backends.bfv.product import Kernel, choose_kernel
from hecompile.backends.bfv.seal import Ring, Words
from hecompile.backends.fold import CHUNK_BYTES, extend, fold, fold_windows, rolled, rolled_windows, weight_matrix
from hecompile.backends.packing import Layout

__all__ = ["encode", "evaluate", "modulo", "split_limbs"]


def split_limbs(words: Words, q_bits: int, limb_bits: int) -> npt.NDArray[np.uint8]:
    """Words below 2^q_bits -> (L, ...) limbs, lowest first."""
    count = -(-q_bits // limb_bits)
    if limb_bits == 8:
        octets = words[..., None].view(np.uint8)
        return np.ascontiguousarray(np.moveaxis(octets[..., :count], -1, 0))
    mask = np.uint64((1 << limb_bits) - 1)
    return np.stack([(words >> np.uint64(limb * limb_bits) & mask).astype(np.uint8) for limb in range(count)])


def modulo(limb_sums: npt.NDArray[Any], limb_bits: int, q: int) -> Words:
    """Sum of limb_sums[l] 2^(l limb_bits), modulo q, as words below q.

    Low and high limbs are put together exactly (each below 2^61); the low 64 bits of the whole are exact in wrapping arithmetic.
    The quotient needs to be right only to within one, for which doubles suffice: it is below 2^26, its error below 2^-20.
    """
    cut = min(32 // limb_bits, len(limb_sums) - 1)
    low, total = _put_together(limb_sums[:cut], limb_bits), _put_together(limb_sums[cut:], limb_bits)
    quotient = np.rint((total * float(1 << (cut * limb_bits)) + low) * (1.0 / q)).astype(np.int64)
    total <<= cut * limb_bits
    total += low
    total -= quotient * q  # now in (-q, q)
    total += (total >> 63) & q  # the shift gives -1 where it is negative
    return total.view(np.uint64)


def _put_together(limb_sums: npt.NDArray[Any], limb_bits: int) -> npt.NDArray[np.int64]:
    """Sum of limb_sums[l] 2^(l limb_bits)."""
    total: npt.NDArray[np.int64] = limb_sums[-1].astype(np.int64)
    for sums in limb_sums[-2::-1]:
        total <<= limb_bits
        total += sums
    return total


def encode(sums: npt.NDArray[np.int64], t_bits: int, q: int) -> Words:
    """round(q m / t) modulo q for integers |m| < t/2 = 2^(t_bits - 1), as words below q; exact for q below 2^60, t up to 2^33."""
    high, low = divmod(q, 1 << 30)  # q m = high m 2^30 + low m, both products below 2^63
    low_product = low * sums + (1 << (t_bits - 1))  # rounds
    if t_bits >= 30:
        scaled = high * sums + (low_product >> 30) >> (t_bits - 30)
    else:
        scaled = (high * sums << (30 - t_bits)) + (low_product >> t_bits)
    scaled += np.where(scaled < 0, np.int64(q), np.int64(0))
    return scaled.view(np.uint64)


def evaluate(
    words: Words, weights: npt.NDArray[np.int8], layout: Layout, ring: Ring, kernel: Kernel | None = None
) -> tuple[Words, Words]:
    """Ciphertexts (2, blocks, uploads, N), `b` before `a` -> `b` where it is read (blocks, answers, reads), and `a`
    (blocks, answers, N); all words below q."""
    kernel = kernel or choose_kernel()
    matrix = weight_matrix(weights, layout)
    results = [_block(words[:, block], matrix, layout, ring, kernel) for block in range(words.shape[1])]
    return np.stack([b for b, _ in results]), np.stack([a for _, a in results])


def _operand(limbs: npt.NDArray[np.uint8], layout: Layout, terms: range) -> npt.NDArray[np.uint8]:
    """Rolled terms of (L, 2, uploads, 4N) limbs: (L, len(terms), columns), `a` before `b`."""
    dimension = layout.packing.dimension
    operand = np.empty((len(limbs), len(terms), layout.columns), np.uint8)
    rolled(limbs[:, 1], layout, terms, operand[:, :, :dimension])
    if layout.narrow:
        windows = operand[:, :, dimension:].reshape(len(limbs), len(terms), layout.windows, layout.area)
        rolled_windows(limbs[:, 0], layout, terms, windows)
    else:
        rolled(limbs[:, 0], layout, terms, operand[:, :, dimension:])
    return operand


def _block(words: Words, matrix: npt.NDArray[np.int8], layout: Layout, ring: Ring, kernel: Kernel) -> tuple[Words, Words]:
    """One block of slots: (2, uploads, N) -> (answers, reads), (answers, N). Some answers at a time, to bound memory."""
    dimension, p_out = layout.packing.dimension, layout.packing.p_out
    positive, negative = (split_limbs(each, ring.q_bits, kernel.limb_bits) for each in (words, np.uint64(ring.q) - words))
    limbs = extend(positive, negative)  # (L, 2, uploads, 4N)
    term_bytes = len(limbs) * layout.columns
    step = max(1, min(kernel.max_k, CHUNK_BYTES // term_bytes))
    chunks = [range(start, min(start + step, matrix.shape[1])) for start in range(0, matrix.shape[1], step)]
    kept = _operand(limbs, layout, chunks[0]) if len(chunks) == 1 else None
    at_once = max(1, CHUNK_BYTES // (4 * term_bytes * p_out))
    # int32 holds the sums of all outputs of an answer unless there are very many terms
    exact = np.int32 if matrix.shape[1] * p_out <= kernel.max_k else np.int64
    results = []
    for first in range(0, layout.answers, at_once):
        rows = matrix[first * p_out : (first + at_once) * p_out]
        answers = len(rows) // p_out
        a = np.zeros((len(limbs), answers, dimension), exact)
        b = np.zeros((len(limbs), answers, p_out, layout.area) if layout.narrow else a.shape, exact)
        for terms in chunks:
            operand = _operand(limbs, layout, terms) if kept is None else kept
            sums = kernel.product(operand, rows[:, terms.start : terms.stop])  # (L, rows, columns)
            fold(sums[:, :, :dimension], layout, a)
            (fold_windows if layout.narrow else fold)(sums[:, :, dimension:], layout, b)
        places = layout.window_reads if layout.narrow else layout.reads
        read = b.reshape(len(limbs), answers, -1)[:, :, places]
        results.append((modulo(read, kernel.limb_bits, ring.q), modulo(a, kernel.limb_bits, ring.q)))
    return np.concatenate([b for b, _ in results]), np.concatenate([a for _, a in results])
