"""The server's work: a public linear map on ciphertext words, exact modulo q. No secret, no randomness.

Words are cut into limbs of 7 or 8 bits, extended to [w, -w, w] so that every negacyclic roll is a slice, multiplied by the int8
weights with an exact integer kernel, and the limbs of the answers put together modulo q.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.backends.bfv.groups import chunks, extend, gather_terms, group_matrix
from hecompile.backends.bfv.packing import Layout
from hecompile.backends.bfv.product import Kernel, choose_kernel
from hecompile.backends.bfv.seal import Ring, Words

IN_CACHE = 1 << 14  # words put together at a time

Limbs = npt.NDArray[Any]

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
    flat = limb_sums.reshape(len(limb_sums), -1)
    words = np.empty(flat.shape[1], np.uint64)
    for start in range(0, len(words), IN_CACHE):
        words[start : start + IN_CACHE] = _modulo(flat[:, start : start + IN_CACHE], limb_bits, q)
    return words.reshape(limb_sums.shape[1:])


def _modulo(limb_sums: npt.NDArray[Any], limb_bits: int, q: int) -> Words:
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
    scaled += (scaled >> 63) & q  # the shift gives -1 where it is negative
    return scaled.view(np.uint64)


def evaluate(
    words: Words, weights: npt.NDArray[np.int8], layout: Layout, ring: Ring, kernel: Kernel | None = None
) -> tuple[Words, Words]:
    """Ciphertexts (2, blocks, uploads, N), `b` before `a` -> `b` where it is read (blocks, answers, reads), and `a`
    (blocks, answers, N); all words below q."""
    kernel = kernel or choose_kernel()
    results = [_block(words[:, block], weights, layout, ring, kernel) for block in range(words.shape[1])]
    return np.stack([b for b, _ in results]), np.stack([a for _, a in results])


def _block(words: Words, weights: npt.NDArray[np.int8], layout: Layout, ring: Ring, kernel: Kernel) -> tuple[Words, Words]:
    """One block of slots: (2, uploads, N) -> (answers, reads), (answers, N)."""
    positive, negative = (split_limbs(each, ring.q_bits, kernel.limb_bits) for each in (words, np.uint64(ring.q) - words))
    limbs = kernel.hold(extend(positive, negative))  # (L, 2, uploads, 3N)
    at_once, step = chunks(layout, len(limbs))
    terms = [range(start, min(start + step, layout.shifts.size)) for start in range(0, layout.shifts.size, step)]
    kept = _operands(limbs, layout, terms[0]) if len(terms) == 1 else None
    results = []
    for first in range(0, layout.answers, at_once):
        answers = range(first, min(first + at_once, layout.answers))
        sums: list[npt.NDArray[Any]] = []  # of `b` and of `a`: (L, answers G, width)
        for some in terms:
            matrix = group_matrix(weights, layout, answers, some)
            parts = [kernel.product(operand, matrix) for operand in kept or _operands(limbs, layout, some)]
            sums = [total + part.astype(np.int64) for total, part in zip(sums, parts, strict=True)] if sums else list(parts)
        results.append(_read(sums[0], sums[1], layout, ring, kernel.limb_bits))
    return np.concatenate([b for b, _ in results]), np.concatenate([a for _, a in results])


def _operands(limbs: Limbs, layout: Layout, terms: range) -> tuple[Limbs, Limbs]:
    """Rolled terms of `b` (L, len(terms) G, A) and of `a` (L, len(terms) G, J)."""
    return gather_terms(limbs[:, 0], layout, terms, layout.area), gather_terms(limbs[:, 1], layout, terms, layout.jump)


def _read(b: Limbs, a: Limbs, layout: Layout, ring: Ring, limb_bits: int) -> tuple[Words, Words]:
    """Limb sums (L, answers G, A) and (L, answers G, J) -> `b` where it is read (answers, reads), and `a` (answers, N)."""
    answers = a.shape[1] // layout.groups
    first = modulo(b, limb_bits, ring.q).reshape(answers, layout.groups, layout.area)
    read = first[:, : layout.packing.p_out, layout.area_reads]
    return read.reshape(answers, -1), modulo(a, limb_bits, ring.q).reshape(answers, -1)
