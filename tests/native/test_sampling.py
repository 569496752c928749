"""Secrets and errors have the distributions that the estimate of security assumes, and nothing is ever drawn twice."""

from __future__ import annotations

import math
import os
import threading
from collections import Counter

import numpy as np
import pytest
from scipy.stats import chi2

from hecompile import _core
from hecompile.backends.bfv.rings import prime
from hecompile.backends.words import pack_bits
from hecompile.ir.linear import Array
from tests.native.core_hooks import Planted, hooks
from tests.native.reference import Ring, multiply

N, T_BITS = 2048, 26
Q = prime(48, T_BITS)
SAMPLES = 10_000_000


def layout(blocks: int = 1, uploads: int = 1) -> _core.Layout:
    """Polynomials of one column: nothing is packed."""
    taps = np.zeros((1, 2), np.int32)
    return _core.make_layout(N, Q, T_BITS, blocks, (uploads, N, 1), (1, N, 1), taps, (1, N, 1, 1), (0, 0))


def chi_square(counts: Array, probabilities: Array) -> float:
    """The chance of a sample at least this far from the distribution."""
    expected = probabilities * counts.sum()
    few = expected < 10  # the tails together
    counts, expected = np.append(counts[~few], counts[few].sum()), np.append(expected[~few], expected[few].sum())
    kept = expected > 0
    return float(chi2.sf((((counts - expected) ** 2)[kept] / expected[kept]).sum(), kept.sum() - 1))


@pytest.mark.promise("own-encryption")
def test_errors_are_centred_binomial() -> None:
    """b of zero under the secret zero is the error itself."""
    ring, blocks = Ring(N, Q, T_BITS), 64
    counts, zeros = Counter[int](), np.zeros((blocks, 1, N), np.int64)
    planted_zero = np.full(blocks * N, 2**63, "<u8").tobytes()
    for _ in range(SAMPLES // (blocks * N) + 1):
        words = Planted(ring, zeros, bytes(ring.upload_bytes), planted_zero, os.urandom(6 * blocks * N)).words.astype(np.int64)
        values, occurrences = np.unique(np.where(words > Q // 2, words - Q, words), return_counts=True)
        counts.update(dict(zip(values.tolist(), occurrences.tolist(), strict=True)))
    assert sum(counts.values()) >= SAMPLES
    assert max(map(abs, counts)) <= 21
    places = range(-21, 22)
    probabilities = np.array([math.comb(42, 21 + place) / 2**42 for place in places])
    assert chi_square(np.array([counts[place] for place in places], float), probabilities) > 1e-6


@pytest.mark.promise("own-encryption")
def test_secrets_are_uniform_ternary() -> None:
    """With a = 1 and no error, b of zero is -s."""
    ring, blocks = Ring(N, Q, T_BITS), 64
    one = (1).to_bytes(6, "little") * (N + 64)
    one += bytes(ring.upload_bytes - len(one))
    counts, zeros = np.zeros(3), np.zeros((blocks, 1, N), np.int64)
    for _ in range(SAMPLES // (blocks * N) + 1):
        words = Planted(ring, zeros, one, os.urandom(8 * blocks * N), bytes(6 * blocks * N)).words
        assert set(np.unique(words).tolist()) <= {0, 1, Q - 1}
        counts += [(words == 1).sum(), (words == 0).sum(), (words == Q - 1).sum()]
    assert counts.sum() >= SAMPLES
    assert chi_square(counts, np.full(3, 1 / 3)) > 1e-6


@pytest.mark.promise("own-encryption")
def test_noise_of_the_installed_module_is_what_is_claimed() -> None:
    """b + a s of real requests, with the secret that an encryption tells of itself, has the variance of 42 coins."""
    layer, ring = layout(), Ring(N, Q, T_BITS)
    out = bytearray(layer.up_bytes + _core.SEED_BYTES)
    request = _core.encrypt([layer], [np.zeros((1, 1, N), np.int64)], [b"test"], out, [0])
    b = np.frombuffer(bytes(out[: layer.up_bytes]), np.uint8).reshape(N, 6)
    words = np.sum([b[:, k].astype(np.int64) << (8 * k) for k in range(6)], axis=0)
    a = _core.public_words(layer, memoryview(out)[layer.up_bytes :], b"test").tolist()
    probe, result = np.zeros(N, np.uint64), np.empty((1, 1, N), np.int64)
    probe[0] = (Q - 1) >> T_BITS  # decrypting b = 0 and a = (q - 1) / t gives the secret
    _core.decrypt(request, pack_bits(np.zeros(N, np.uint64), 48) + pack_bits(probe, 48), [0], [result])
    product = multiply(ring, a, result.reshape(-1).tolist())
    phases = [(int(x) + y) % Q for x, y in zip(words, product, strict=True)]
    errors = np.array([phase - Q if phase > Q // 2 else phase for phase in phases])
    assert np.abs(errors).max() <= 21
    assert errors.var() == pytest.approx(10.5, rel=0.15)


def _fingerprints(layer: _core.Layout, times: int, seeds: list[bytes], secrets: list[bytes]) -> None:
    out = bytearray(layer.up_bytes + layer.seeds * _core.SEED_BYTES)
    message = np.zeros((layer.blocks, layer.uploads, N), np.int64)
    for _ in range(times):
        request = _core.encrypt([layer], [message], [b"test"], out, [0])
        seeds.append(bytes(out[layer.up_bytes :]))
        secrets += hooks().fingerprints(request)


@pytest.mark.slow
@pytest.mark.promise("own-encryption")
def test_nothing_is_drawn_twice() -> None:
    """No seed and no secret twice over 10^5 requests of two threads and two forked processes."""
    layer, seeds, secrets = layout(), list[bytes](), list[bytes]()
    pipes = []
    for _ in range(2):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            own_seeds, own_secrets = list[bytes](), list[bytes]()
            try:
                _fingerprints(layer, 20_000, own_seeds, own_secrets)
                with os.fdopen(write, "wb") as file:
                    file.write(b"".join(own_seeds) + b"".join(own_secrets))
            finally:
                os._exit(0)
        os.close(write)
        pipes.append((child, read))
    threads = [threading.Thread(target=_fingerprints, args=(layer, 30_000, seeds, secrets)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for child, read in pipes:
        with os.fdopen(read, "rb") as file:
            data = file.read()
        os.waitpid(child, 0)
        assert len(data) == 2 * 20_000 * 32
        pieces = [data[start : start + 32] for start in range(0, len(data), 32)]
        seeds += pieces[:20_000]
        secrets += pieces[20_000:]
    for thread in threads:
        thread.join()
    assert len(seeds) == len(set(seeds)) == 100_000
    assert len(secrets) == len(set(secrets)) == 100_000


def test_blocks_of_one_request_have_different_secrets() -> None:
    layer, seeds, secrets = layout(blocks=130), list[bytes](), list[bytes]()
    _fingerprints(layer, 2, seeds, secrets)
    assert len(set(secrets)) == len(secrets) == 260
    assert layer.seeds == 3  # groups of at most 64 blocks, a public seed for each
    assert len({seed[start : start + 32] for seed in seeds for start in range(0, 96, 32)}) == 6
