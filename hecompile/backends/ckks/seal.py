"""CKKS by SEAL 4.4, what both sides share: contexts, and ciphertexts as words. Nothing here makes or holds a secret key.

Everything that comes from elsewhere, ciphertexts, answers and evaluation keys, is loaded by this build of SEAL (`seal-python`), in
memory. `secret.py` makes keys and fresh ciphertexts with the build in TenSEAL, whose objects are half as long: one polynomial of
each is a seed. Both builds have the same primes, file format and arithmetic.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.backends.ckks.library import seal
from hecompile.backends.ckks.moduli import primes
from hecompile.backends.ckks.ring import Ring
from hecompile.backends.seal_files import ARRAY_BYTES, HEADER_BYTES, MEMBERS_BYTES, PRNG_BLAKE2XB, array, header, members
from hecompile.backends.words import SEED_BYTES, pack_bits, packed_bytes, unpack_bits
from hecompile.errors import InternalError, ProtocolError

__all__ = [
    "SEAL_ERRORS", "Encoder", "context_of", "encoder_of", "evaluator_of", "fresh_bytes", "load_answer", "load_fresh", "parms_id",
    "reply_bytes", "save_answer", "seal_words", "split_fresh",
]  # fmt: skip

Words = npt.NDArray[np.uint64]

SEAL_ERRORS = (ArithmeticError, IndexError, RuntimeError, ValueError)  # what its exceptions become in Python; no memory apart


def _context(dimension: int, moduli: tuple[int, ...], chain: bool) -> Any:
    parameters = seal.EncryptionParameters(seal.scheme_type.ckks)
    parameters.set_poly_modulus_degree(dimension)
    parameters.set_coeff_modulus([seal.Modulus(prime) for prime in moduli])
    return seal.SEALContext(parameters, chain, seal.sec_level_type.tc128)


@lru_cache(maxsize=16)
def context_of(ring: Ring) -> Any:
    """SEAL's context. Raises `ProtocolError` if SEAL refuses the ring, which it also does below 128 bits of its own table."""
    context = _context(ring.dimension, primes(ring), True)
    if not context.parameters_set():
        raise ProtocolError(f"SEAL refuses {ring}: {context.parameter_error_message()}")
    return context


class Encoder:
    """SEAL's encoder at any level of a ring.

    SEAL's encodes at the highest level of its context, so every level has a context of its own, made when it is first used:
    encoding at the ring's highest level and switching down would take up to four times as long.
    """

    def __init__(self, ring: Ring) -> None:
        self._ring, self._whole = ring, seal.CKKSEncoder(context_of(ring))
        self._encoders = {ring.depth: self._whole}

    def encode(self, values: npt.NDArray[np.float64] | float, level: int, scale: float) -> Any:
        """A plaintext of the slots, or of one number in all of them."""
        if level not in self._encoders:
            moduli = primes(self._ring)
            context = _context(self._ring.dimension, (*moduli[: level + 1], moduli[-1]), False)
            self._encoders[level] = seal.CKKSEncoder(context)
        return self._encoders[level].encode(values, scale)

    def decode(self, plain: Any) -> npt.NDArray[np.float64]:
        """The slots of a plaintext of any level."""
        return np.asarray(self._whole.decode(plain), np.float64)


@lru_cache(maxsize=16)
def encoder_of(ring: Ring) -> Encoder:
    return Encoder(ring)


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
    """The fields of a ciphertext of two polynomials before its words: SEAL's own for a level, with NTT form, size and scale."""
    cipher = seal.Ciphertext(context_of(ring), parms_id(ring, level))
    plain = bytearray(members(cipher.to_string(seal.compr_mode_type.none))[:MEMBERS_BYTES])
    struct.pack_into("<BQ", plain, 32, 1, 2)  # after 32 bytes of parms_id; then N and primes of 8 bytes each
    struct.pack_into("<d", plain, 57, scale)
    return bytes(plain)


def fresh_bytes(ring: Ring, level: int) -> int:
    """Bytes of a fresh ciphertext on the wire: the words of one polynomial, and the seed of the other."""
    return sum(packed_bytes(ring.dimension, bits) for bits in ring.bits[: level + 1]) + SEED_BYTES


def reply_bytes(ring: Ring, level: int) -> int:
    """Bytes of an answer: the words of both polynomials."""
    return 2 * sum(packed_bytes(ring.dimension, bits) for bits in ring.bits[: level + 1])


def split_fresh(fields: bytes, ring: Ring, level: int) -> bytes:
    """A seeded ciphertext as SEAL wrote it, without its header -> its bytes on the wire."""
    count = (level + 1) * ring.dimension
    first = MEMBERS_BYTES + ARRAY_BYTES
    last = first + 8 * count
    if len(fields) != last + HEADER_BYTES + 1 + SEED_BYTES or fields[last + HEADER_BYTES] != PRNG_BLAKE2XB:
        raise InternalError("SEAL wrote a fresh ciphertext without the seed that hecompile expects")
    words = np.frombuffer(fields[first:last], np.uint64).reshape(level + 1, ring.dimension)
    return _pack(words, ring) + fields[last + HEADER_BYTES + 1 :]


def load_fresh(data: memoryview, ring: Ring, level: int, scale: float) -> Any:
    """The ciphertext of the bytes of `split_fresh`. Raises `ProtocolError` for words that are not below their prime."""
    words = _unpack(data[:-SEED_BYTES], ring, level, 1)
    generator = header(1 + SEED_BYTES) + bytes([PRNG_BLAKE2XB]) + bytes(data[-SEED_BYTES:])
    return _load(ring, level, scale, array(words.tobytes(), words.size) + generator)


def seal_words(cipher: Any) -> Words:
    """All words of a ciphertext, polynomial by polynomial and prime by prime."""
    return np.frombuffer(members(cipher.to_string(seal.compr_mode_type.none)), np.uint64, offset=MEMBERS_BYTES + ARRAY_BYTES)


def save_answer(cipher: Any, ring: Ring, level: int) -> bytes:
    """The bytes of a ciphertext of two polynomials."""
    return b"".join(_pack(part, ring) for part in seal_words(cipher).reshape(2, level + 1, ring.dimension))


def load_answer(data: memoryview, ring: Ring, level: int, scale: float) -> Any:
    """The ciphertext of the bytes of `save_answer`. Raises `ProtocolError` as `load_fresh` does."""
    words = _unpack(data, ring, level, 2)
    return _load(ring, level, scale, array(words.tobytes(), words.size))


def _load(ring: Ring, level: int, scale: float, rest: bytes) -> Any:
    before = _members(ring, level, scale)
    try:
        return context_of(ring).from_cipher_str(header(len(before) + len(rest)) + before + rest)
    except SEAL_ERRORS as error:
        raise ProtocolError(f"SEAL refuses a ciphertext: {error}") from error


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
