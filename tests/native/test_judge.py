"""SEAL decrypts what the core encrypts, and the core what SEAL encrypts, in every ring that is in use."""

from __future__ import annotations

import os

import numpy as np
import pytest

from hecompile import _core
from hecompile.backends.bfv.rings import prime, table_rows
from tests.native.core_hooks import Planted, hooks, secret_bytes
from tests.native.reference import Ring, binomial, encrypt, expand, interpolate, stream, ternary
from tests.native.seal_bfv import Judge, SealRing

# every size of q with the smallest, a middle and the largest t of a model's layers, and larger dimensions
RINGS = sorted(
    {
        (2048, q_bits, t_bits)
        for q_bits, t_bits, _ in table_rows()
        if t_bits <= 33 and (t_bits in (16, 20, 26, 33) or q_bits in (40, 47, 48, 50))
    }
    | {(4096, 48, 26), (4096, 50, 20), (8192, 48, 24)}
)


@pytest.mark.promise("own-encryption")
@pytest.mark.parametrize(("dimension", "q_bits", "t_bits"), RINGS)
def test_seal_and_the_core_read_each_other(dimension: int, q_bits: int, t_bits: int) -> None:
    q, rng = prime(q_bits, t_bits), np.random.default_rng(3)
    ring, judge = Ring(dimension, q, t_bits), Judge(SealRing(dimension, q, 1 << t_bits))
    half = 1 << (t_bits - 1)
    messages = rng.integers(max(-half, -(2**31) + 1) + 1, min(half, 2**31), (1, 1, dimension))
    messages[0, 0, :4] = [0, 1, -1, min(half, 2**31) - 1]
    public = os.urandom(ring.upload_bytes)
    planted = Planted(ring, messages, public, secret_bytes(judge.secret), os.urandom(6 * dimension))
    values = np.empty(dimension, np.uint64)
    assert hooks().expand(dimension, q, t_bits, public, values)
    a = np.array(interpolate(ring, values.tolist()), np.uint64)[None]
    np.testing.assert_array_equal(judge.decrypt(planted.words[0], a)[0], messages[0, 0])
    b, a = judge.encrypt(messages[0])
    np.testing.assert_array_equal(planted.decrypt(b, a)[0], messages[0, 0])


def test_every_kernel_gives_the_words_of_the_reference() -> None:
    ring, rng = Ring(1024, prime(48, 26), 26), np.random.default_rng(4)
    messages = rng.integers(-2047, 2048, (2, 1, 1024))
    key, secrets, errors = os.urandom(32), os.urandom(2 * 8 * 1024), os.urandom(2 * 6 * 1024)
    words = expand(ring, key, 0)
    expected = [
        encrypt(
            ring,
            messages[block, 0].tolist(),
            words,
            ternary(secrets[8192 * block :][:8192]),
            binomial(errors[6144 * block :][:6144]),
        )
        for block in range(2)
    ]
    before = _core.kernel()
    try:
        for name in _core.kernels():
            hooks().use_kernel(name)
            planted = Planted(ring, messages, stream(key, 0, ring.upload_bytes), secrets, errors)
            np.testing.assert_array_equal(planted.words[:, 0], np.array(expected, np.uint64), err_msg=name)
    finally:
        hooks().use_kernel(before)
