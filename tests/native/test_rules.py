"""The rules of docs/cryptography.md that hold of the installed module, each by a test; others stand beside what they are about."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hecompile import _core
from hecompile.backends.bfv.rings import BLOCKS_PER_SEED, SEED_BYTES, prime, table_rows
from tests.native.core_hooks import Planted, secret_bytes
from tests.native.reference import Ring

N, T_BITS = 2048, 26
Q = prime(48, T_BITS)

pytestmark = pytest.mark.promise("own-encryption")


def layout(blocks: int = 1, dimension: int = N, q: int = Q, t_bits: int = T_BITS) -> _core.Layout:
    taps = np.zeros((1, 2), np.int32)
    return _core.make_layout(dimension, q, t_bits, blocks, (1, dimension, 1), (1, dimension, 1), taps, (1, dimension, 1, 1), (0, 0))


def encrypted(blocks: int = 1) -> tuple[_core.Layout, _core.Request, bytearray]:
    layer = layout(blocks)
    out = bytearray(layer.up_bytes + layer.seeds * _core.SEED_BYTES)
    return layer, _core.encrypt([layer], [np.zeros((blocks, 1, N), np.int64)], [b"rules"], out, [0]), out


def answered(layer: _core.Layout, request: _core.Request) -> None:
    reply, result = bytes(layer.down_b_bytes + layer.down_a_bytes), np.empty((layer.blocks, 1, N), np.int64)
    _core.decrypt(request, reply, [0], [result])


def test_the_table_alone_says_which_moduli_there_are() -> None:
    for q_bits, t_bits, _ in table_rows():
        layout(q=prime(q_bits, t_bits), t_bits=t_bits)
    for wrong in (Q - (2 << T_BITS), 2**48 - 2**32 + 1, prime(48, 28), prime(47, T_BITS) + 2**40):
        with pytest.raises(ValueError, match="modulus"):
            layout(q=wrong)


def test_seeds_are_the_same_to_plans_and_to_the_core() -> None:
    assert (SEED_BYTES, BLOCKS_PER_SEED) == (_core.SEED_BYTES, _core.BLOCKS_PER_SEED)


def test_no_argument_brings_a_seed_or_a_secret() -> None:
    names = [name for name in dir(_core) if not name.startswith("_")]
    assert not [name for name in names if any(word in name.lower() for word in ("secret", "plant", "error", "random", "hook"))]
    assert "seed" not in (_core.encrypt.__doc__ or "").lower()
    assert {name for name in dir(_core.Run()) if not name.startswith("_")} == {"kept_bytes"}


def test_a_request_serves_one_reply() -> None:
    layer, request, _ = encrypted()
    answered(layer, request)
    with pytest.raises(RuntimeError, match="answered"):
        answered(layer, request)


def test_a_request_does_not_cross_a_fork() -> None:
    layer, request, _ = encrypted()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            answered(layer, request)
        except RuntimeError as error:
            status = int("another process" not in str(error))
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    answered(layer, request)


def test_a_secret_that_stands_twice_is_found() -> None:
    """What the rule prevents: the difference of two blocks under one secret is their messages' and errors'."""
    ring, messages = Ring(N, Q, T_BITS), np.arange(2 * N).reshape(2, 1, N) - N
    secret = np.random.default_rng(0).integers(-1, 2, N)
    stream, errors = os.urandom(ring.upload_bytes), os.urandom(12 * N)
    words = Planted(ring, messages, stream, secret_bytes(np.stack([secret, secret])), errors).words[:, 0].astype(object)
    difference = (words[1] - words[0] + Q // 2) % Q - Q // 2
    delta = (Q - 1) >> T_BITS
    assert np.abs(difference - delta * (messages[1, 0] - messages[0, 0]).astype(object)).max() <= 42
    other = Planted(ring, messages, stream, secret_bytes(np.stack([secret, -secret])), errors).words[:, 0].astype(object)
    assert np.abs((other[1] - other[0] + Q // 2) % Q - Q // 2).max() > Q // 4


def test_every_reply_of_the_right_size_decrypts() -> None:
    """Garbage like the rest: words at and beyond q, all ones, zeros."""
    for fill in (b"\0", b"\xff", b"\x7f"):
        layer, request, _ = encrypted(3)
        reply, result = fill * (layer.down_b_bytes + layer.down_a_bytes), np.full((3, 1, N), 1 << 60)
        _core.decrypt(request, reply, [0], [result])
        assert np.abs(result).max() <= 1 << (T_BITS - 1)


@pytest.mark.parametrize(
    "change",
    [lambda reply: reply[:-1], lambda reply: b"", lambda reply: reply[: len(reply) // 2]],
    ids=["a byte less", "empty", "half"],
)
def test_replies_are_judged_before_they_are_decrypted(change: Callable[[bytes], bytes]) -> None:
    """And the request is not used up by one that is refused: the right reply may still come."""
    layer, request, _ = encrypted()
    reply, result = bytes(layer.down_b_bytes + layer.down_a_bytes), np.empty((1, 1, N), np.int64)
    with pytest.raises(ValueError, match="shorter"):
        _core.decrypt(request, change(reply), [0], [result])
    _core.decrypt(request, reply, [0], [result])


def test_bits_after_the_last_word_are_judged() -> None:
    geometry, taps = (1, 1, 1), np.zeros((1, 2), np.int32)
    layer = _core.make_layout(N, prime(47, T_BITS), T_BITS, 1, geometry, (1, 1, 1), taps, (1, 1, 1, 1), (0, 0))
    out = bytearray(layer.up_bytes + _core.SEED_BYTES)
    request = _core.encrypt([layer], [np.zeros((1, 1, N), np.int64)], [b""], out, [0])
    assert layer.down_b_bytes == 6  # one word of 47 bits
    reply, result = bytearray(layer.down_b_bytes + layer.down_a_bytes), np.empty((1, 1, 1), np.int64)
    reply[5] = 0x80
    with pytest.raises(ValueError, match="after the last word"):
        _core.decrypt(request, reply, [0], [result])


def test_zeros_and_equal_pictures_are_encrypted_like_any_other() -> None:
    """No cached ciphertext, no block that is left out: equal blocks give unrelated words, and zeros no zeros."""
    _, _, first = encrypted(2)
    _, _, second = encrypted(2)
    words = [np.frombuffer(bytes(data[: 12 * N]), np.uint8).reshape(2, -1) for data in (first, second)]
    pieces = [words[0][0], words[0][1], words[1][0], words[1][1]]
    for i, one in enumerate(pieces):
        assert abs((one == 0).mean() - 1 / 256) < 0.01
        for two in pieces[:i]:
            assert abs((one == two).mean() - 1 / 256) < 0.01


def test_values_of_another_size_are_refused() -> None:
    layer = layout()
    out = bytearray(layer.up_bytes + _core.SEED_BYTES)
    for values, buffer, reason in (
        (np.zeros((1, 1, N - 1), np.int64), out, "size"),
        (np.zeros((1, 1, N), np.int64), out[:-1], "shorter"),
    ):
        with pytest.raises(ValueError, match=reason):
            _core.encrypt([layer], [values], [b""], buffer, [0])
    doubles: Any = np.zeros((1, 1, N), np.float64)
    with pytest.raises((TypeError, RuntimeError)):
        _core.encrypt([layer], [doubles], [b""], out, [0])
