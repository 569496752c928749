"""Known answers of the expansion, in tests/native/vectors.json, and the scheme in plain integers."""

from __future__ import annotations

import hashlib
import json
import math
import random
import secrets
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hecompile import _core
from hecompile.backends.bfv.parameters import DIMENSIONS
from hecompile.backends.bfv.rings import table_rows
from tests.native.reference import (
    Ring,
    binomial,
    decrypt,
    encrypt,
    evaluate,
    expand,
    interpolate,
    largest_prime,
    multiply,
    public_key,
    ternary,
)  # fmt: skip

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text())
EACH = pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['q'].bit_length()} bits")


def ring_of(vector: dict[str, Any]) -> Ring:
    return Ring(vector["n"], vector["q"], vector["t_bits"])


@EACH
def test_the_modulus_is_the_largest_of_its_size(vector: dict[str, Any]) -> None:
    bits = vector["q"].bit_length()
    below = 2**48 - 2**32 - 2**16 - 1 if bits == 48 else 2**bits - 1  # three signed digits of 16 bits
    assert vector["q"] == largest_prime(below, vector["t_bits"])
    assert (vector["q"] - 1) % (2 * vector["n"]) == 0


@EACH
def test_the_root_is_the_smallest(vector: dict[str, Any]) -> None:
    ring = ring_of(vector)
    assert ring.psi == vector["psi"]
    assert pow(ring.psi, ring.n, ring.q) == ring.q - 1


@EACH
def test_the_key_of_the_stream(vector: dict[str, Any]) -> None:
    digest, seed = bytes.fromhex(vector["digest"]), bytes.fromhex(vector["seed"])
    key = public_key(digest, vector["region"], vector["layer"], vector["group"], seed)
    assert key.hex() == vector["key"]


@EACH
def test_the_words(vector: dict[str, Any]) -> None:
    for upload, known in enumerate(vector["uploads"]):
        words = expand(ring_of(vector), bytes.fromhex(vector["key"]), upload)
        assert words[:4] == known["first"]
        assert words[-4:] == known["last"]
        assert hashlib.sha256(b"".join(word.to_bytes(8, "little") for word in words)).hexdigest() == known["sha256"]


@EACH
@pytest.mark.promise("own-encryption")
def test_the_core_gives_the_known_answers(vector: dict[str, Any]) -> None:
    """The installed module, from seed to coefficients, with every kernel."""
    ring, group, fields = ring_of(vector), vector["group"], (bytes.fromhex(vector["digest"]), vector["region"].encode())
    context = (
        b"hecompile bfv a v1"
        + b"".join(struct.pack("<I", len(field)) + field for field in fields)
        + struct.pack("<I", vector["layer"])
    )
    shape, taps, uploads = (1, ring.n, 1), np.zeros((1, 2), np.int32), len(vector["uploads"])
    blocks = group * _core.BLOCKS_PER_SEED + 1
    layout = _core.make_layout(ring.n, ring.q, ring.t_bits, blocks, (uploads, ring.n, 1), shape, taps, (1, ring.n, 1, 1), (0, 0))
    seeds = bytes(group * _core.SEED_BYTES) + bytes.fromhex(vector["seed"])
    wanted = [interpolate(ring, expand(ring, bytes.fromhex(vector["key"]), upload)) for upload in range(uploads)]
    before = _core.kernel()
    try:
        for kernel in _core.kernels():
            _core.use_kernel(kernel)
            words = _core.public_words(layout, seeds, context).reshape(group + 1, uploads, ring.n)[group]
            assert words.tolist() == wanted, kernel
    finally:
        _core.use_kernel(before)


def test_the_vectors_reach_words_that_are_skipped() -> None:
    assert min(upload["skipped"] for vector in VECTORS if vector["q"].bit_length() == 33 for upload in vector["uploads"]) > 0


def test_spare_words_suffice() -> None:
    """In every ring with q of at least 2^12 t, one polynomial in 2^80 skips more words than there are spare ones."""
    for q_bits, t_bits, k in table_rows():
        if q_bits - t_bits < 12:
            continue  # no noise of a layer with a weight of 127 fits into those
        rejected = (k * 2**t_bits - 1) / 2**q_bits
        for n in DIMENSIONS:
            words = Ring(n, 0, 0).words
            assert log2_tail(words, rejected, words - n + 1) < -80, (q_bits, t_bits, n)


def log2_tail(count: int, p: float, least: int) -> float:
    """log2 of a bound on the probability of `least` or more successes among `count`: a geometric sum."""
    term = math.lgamma(count + 1) - math.lgamma(least + 1) - math.lgamma(count - least + 1)
    term += least * math.log(p) + (count - least) * math.log1p(-p)
    ratio = (count - least) / (least + 1) * p / (1 - p)
    return (term - math.log1p(-ratio)) / math.log(2)


@EACH
def test_the_reference_interpolates(vector: dict[str, Any]) -> None:
    ring = ring_of(vector)
    words = expand(ring, bytes.fromhex(vector["key"]), 0)
    coefficients = interpolate(ring, words)
    for index in (0, 1, 2, ring.n // 2, ring.n - 1):
        assert evaluate(ring, coefficients, index) == words[index]


def test_the_reference_multiplies() -> None:
    ring = Ring(1024, largest_prime(2**26 - 1, 16), 16)
    rng = random.Random(0)
    x, y = ([rng.randrange(ring.q) for _ in range(ring.n)] for _ in range(2))
    product = multiply(ring, x, y)
    for index in (0, 1, 511, 1023):
        plain = sum(x[i] * y[index - i] if i <= index else -x[i] * y[ring.n + index - i] for i in range(ring.n))
        assert product[index] == plain % ring.q


@EACH
def test_the_reference_decrypts_what_it_encrypts(vector: dict[str, Any]) -> None:
    ring = ring_of(vector)
    words = expand(ring, bytes.fromhex(vector["key"]), 0)
    secret, error = ternary(secrets.token_bytes(8 * ring.n)), binomial(secrets.token_bytes(6 * ring.n))
    message = [secrets.randbelow(ring.t) - ring.t // 2 for _ in range(ring.n)]
    b = encrypt(ring, message, words, secret, error)
    assert decrypt(ring, b, interpolate(ring, words), secret) == message


def test_secrets_and_errors_from_their_bytes() -> None:
    third = -(-(1 << 64) // 3)  # the least that becomes 0
    edges = [0, third - 1, third, 2 * (1 << 64) // 3, 2 * (1 << 64) // 3 + 1, (1 << 64) - 1]
    assert ternary(b"".join(r.to_bytes(8, "little") for r in edges)) == [-1, -1, 0, 0, 1, 1]
    ones = [0, 0x1FFFFF, 0x1FFFFF << 21, (1 << 42) - 1, 0x3F << 42, 1 << 20, 1 << 21]
    assert binomial(b"".join(r.to_bytes(6, "little") for r in ones)) == [0, 21, -21, 0, 0, 1, -1]
