"""What the encrypted sampler step is compared with, by TenSEAL's CKKS: per scalar, packed dense, and the paper's method.

The paper's method is our own statement of its algorithm. Only `packed_dense_both` encrypts the noise prediction too.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import tenseal
import torch

from hecompile.ir.linear import Array
from hecompile.sparsity.importance import hill_summed

__all__ = ["context", "packed_dense", "packed_dense_both", "paper", "paper_bytes", "per_scalar", "search"]

SCALE_BITS = 26


def context(dimension: int = 8192, prime_bits: Sequence[int] = (31, *[SCALE_BITS] * 6, 31)) -> Any:
    """The paper's parameters, or others; keys are made here, once for all steps."""
    made = tenseal.context(tenseal.SCHEME_TYPE.CKKS, dimension, coeff_mod_bit_sizes=list(prime_bits))
    made.global_scale = 2**SCALE_BITS
    return made


@contextmanager
def quiet() -> Any:
    """TenSEAL's C++ tells on stdout that a vector takes several ciphertexts."""
    kept, sink = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(sink)


def per_scalar(keys: Any, x: Array, e: Array, f: float, g: float, count: int) -> Array:
    """One ciphertext for each of the first `count` entries."""
    entries = [
        (tenseal.ckks_vector(keys, [a]) * f + [g * b]).decrypt()[0] for a, b in zip(x.flat[:count], e.flat[:count], strict=True)
    ]
    return np.array(entries)


def packed_dense(keys: Any, x: Array, e: Array, f: float, g: float) -> Array:
    """All entries of x in as few ciphertexts as hold them."""
    with quiet():
        return np.array((tenseal.ckks_vector(keys, x.ravel()) * f + g * e.ravel()).decrypt()).reshape(x.shape)


def packed_dense_both(keys: Any, x: Array, e: Array, f: float, g: float) -> Array:
    """The same with e encrypted too, as it is in ours."""
    with quiet():
        total = tenseal.ckks_vector(keys, x.ravel()) * f + tenseal.ckks_vector(keys, e.ravel()) * g
        return np.array(total.decrypt()).reshape(x.shape)


def search(distortion: Array, tau: float) -> Array:
    """The paper's iterative search of what stays in the clear, True where encrypted.

    Take every entry far below its share of the budget, again and again; then the k cheapest while they fit, halving k when they do
    not; then the cheapest one by one, until the budget is passed (by the last one).
    """
    left = distortion.ravel().copy()
    total, size = left.sum(), left.size
    budget, spent, taken = tau * total, 0.0, 0

    def take(places: Array) -> None:
        nonlocal spent, taken
        spent += float(left[places].sum())
        taken += len(places)
        left[places] = np.inf

    cheap = np.flatnonzero(left * size / total < tau)
    while len(cheap):
        take(cheap)
        cheap = np.flatnonzero(left * (size - taken) < budget - spent)
        if len(cheap) < 20:
            break
    k = (size - taken) // 2
    while spent < budget and k > 20:
        places = np.argpartition(left, k)[:k]
        if left[places].sum() < budget - spent:
            take(places)
            k = min(k, (size - taken) // 2)
        else:
            k //= 2
    while spent < budget:
        take(np.array([left.argmin()]))
    return np.isfinite(left).reshape(distortion.shape)


def paper(keys: Any, x: Array, e: Array, f: float, g: float, tau: float, by_index: bool = True) -> Array:
    """Search, encrypt the chosen entries as one COO vector, step, decrypt, and merge into the rest by index.

    As published, latents are torch tensors and are merged entry by entry; `by_index=False` merges at once, to their favour.
    """
    mask = search(hill_summed(x), tau)
    indices = np.argwhere(mask)
    with quiet():
        values = (tenseal.ckks_vector(keys, x[mask]) * f + g * e[mask]).decrypt()
    merged = torch.from_numpy(f * x + g * e)
    if by_index:
        for value, index in zip(values, indices, strict=True):
            merged[tuple(index)] = value
    else:
        merged[torch.from_numpy(mask)] = torch.tensor(values, dtype=torch.float64)
    return merged.numpy()


def paper_bytes(keys: Any, x: Array, tau: float) -> int:
    """Size of the paper's encrypted vector, with 2-byte indices."""
    mask = search(hill_summed(x), tau)
    with quiet():
        return len(tenseal.ckks_vector(keys, x[mask]).serialize()) + 2 * int(mask.sum())
