"""CKKS by SEAL, what both sides share: contexts, and ciphertexts as words. Nothing here makes or holds a secret key."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import tenseal.sealapi as seal

from hecompile.backends.bfv.bits import SEED_BYTES, pack_bits, packed_bytes, unpack_bits
from hecompile.backends.ckks.moduli import primes
from hecompile.backends.ckks.ring import Ring
from hecompile.backends.seal_files import ARRAY_BYTES, FILE, HEADER_BYTES, MEMBERS_BYTES, PRNG_BLAKE2XB, array, header
from hecompile.errors import InternalError, ProtocolError

__all__ = [
    "context_of", "encoder_of", "evaluator_of", "fresh_bytes", "load_answer", "load_fresh", "parms_id", "reply_bytes",
    "save_answer", "split_fresh",
]  # fmt: skip

Words = npt.NDArray[np.uint64]


@lru_cache(maxsize=16)
def context_of(ring: Ring) -> Any:
    """SEAL's context. Raises `ProtocolError` if SEAL refuses the ring, which it also does below 128 bits of its own table."""
    parameters = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
    parameters.set_poly_modulus_degree(ring.dimension)
    parameters.set_coeff_modulus([seal.Modulus(prime) for prime in primes(ring)])
    context = seal.SEALContext(parameters, True, seal.SEC_LEVEL_TYPE.TC128)
    if not context.parameters_set():
        raise ProtocolError(f"SEAL refuses {ring}: {context.parameters_error_message()}")
    return context


@lru_cache(maxsize=16)
def encoder_of(ring: Ring) -> Any:
    return seal.CKKSEncoder(context_of(ring))


@lru_cache(maxsize=16)
def evaluator_of(ring: Ring) -> Any:
    return seal.Evaluator(context_of(ring))


@lru_cache(maxsize=64)
def parms_id(ring: Ring, level: int) -> list[int]:
    """SEAL's name for a level."""
    data = context_of(ring).first_context_data()
    while data.chain_index() > level:
        data = data.next_context_data()
    found: list[int] = data.parms_id()
    return found


@lru_cache(maxsize=256)
def _members(ring: Ring, level: int, scale: float) -> bytes:
    """The fields of a ciphertext of two polynomials before its words: SEAL's own for a level, with NTT form and scale."""
    context = context_of(ring)
    cipher = seal.Ciphertext(context, parms_id(ring, level))
    cipher.resize(context, parms_id(ring, level), 2)
    cipher.save(FILE.path)
    plain = bytearray(FILE.read()[:MEMBERS_BYTES])
    plain[32] = 1  # after 32 bytes of parms_id; then size, N and primes of 8 bytes each
    struct.pack_into("<d", plain, 57, scale)
    return bytes(plain)


def fresh_bytes(ring: Ring, level: int) -> int:
    """Bytes of a fresh ciphertext on the wire: the words of one polynomial, and the seed of the other."""
    return sum(packed_bytes(ring.dimension, bits) for bits in ring.bits[: level + 1]) + SEED_BYTES


def reply_bytes(ring: Ring, level: int) -> int:
    """Bytes of an answer: the words of both polynomials."""
    return 2 * sum(packed_bytes(ring.dimension, bits) for bits in ring.bits[: level + 1])


def split_fresh(members: bytes, ring: Ring, level: int) -> bytes:
    """A seeded ciphertext as SEAL wrote it -> its bytes on the wire."""
    count = (level + 1) * ring.dimension
    first = MEMBERS_BYTES + ARRAY_BYTES
    last = first + 8 * count
    if len(members) != last + HEADER_BYTES + 1 + SEED_BYTES or members[last + HEADER_BYTES] != PRNG_BLAKE2XB:
        raise InternalError("SEAL wrote a fresh ciphertext without the seed that hecompile expects")
    words = np.frombuffer(members[first:last], np.uint64).reshape(level + 1, ring.dimension)
    return _pack(words, ring) + members[last + HEADER_BYTES + 1 :]


def load_fresh(data: memoryview, ring: Ring, level: int, scale: float) -> Any:
    """The ciphertext of the bytes of `split_fresh`. Raises `ProtocolError` for words that are not below their prime."""
    words = _unpack(data[:-SEED_BYTES], ring, level, 1)
    generator = header(1 + SEED_BYTES) + bytes([PRNG_BLAKE2XB]) + bytes(data[-SEED_BYTES:])
    return _load(ring, level, scale, array(words.tobytes(), words.size) + generator)


def save_answer(cipher: Any, ring: Ring, level: int) -> bytes:
    """The bytes of a ciphertext of two polynomials."""
    cipher.save(FILE.path)
    words = np.frombuffer(FILE.read(), np.uint64, offset=MEMBERS_BYTES + ARRAY_BYTES)
    return b"".join(_pack(part, ring) for part in words.reshape(2, level + 1, ring.dimension))


def load_answer(data: memoryview, ring: Ring, level: int, scale: float) -> Any:
    """The ciphertext of the bytes of `save_answer`. Raises `ProtocolError` as `load_fresh` does."""
    words = _unpack(data, ring, level, 2)
    return _load(ring, level, scale, array(words.tobytes(), words.size))


def _load(ring: Ring, level: int, scale: float, rest: bytes) -> Any:
    members = _members(ring, level, scale)
    cipher = seal.Ciphertext(context_of(ring))
    try:
        cipher.load(context_of(ring), FILE.write(header(len(members) + len(rest)) + members + rest))
    except (ValueError, RuntimeError, IndexError) as error:
        raise ProtocolError(f"SEAL refuses a ciphertext: {error}") from error
    finally:
        FILE.write(b"")
    return cipher


def _pack(words: Words, ring: Ring) -> bytes:
    """(level + 1, N) words, each row with the bits of its prime."""
    return b"".join(pack_bits(row, bits) for row, bits in zip(words, ring.bits, strict=False))


def _unpack(data: memoryview, ring: Ring, level: int, parts: int) -> Words:
    """(parts, level + 1, N)"""
    words, start = np.empty((parts, level + 1, ring.dimension), np.uint64), 0
    for part in words:
        for row, bits, prime in zip(part, ring.bits, primes(ring), strict=False):
            size = packed_bytes(ring.dimension, bits)
            row[:] = unpack_bits(data[start : start + size], ring.dimension, bits)
            if (row >= np.uint64(prime)).any():
                raise ProtocolError("a word of a ciphertext is not below its prime")
            start += size
    return words
