"""SEAL 4.4 as both sides use it: contexts, encoders, and ciphertexts as bytes. Nothing here makes or holds a secret key.

This build of SEAL (`seal-python`) loads all that comes from elsewhere: ciphertexts, answers and evaluation keys. It loads them from
memory, not from files. `secret.py` makes keys and fresh ciphertexts with TenSEAL's build, which writes one polynomial of each as a
seed, so that they are half as long. Both builds have the same primes, file format and arithmetic.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.backends.ckks.library import seal
from hecompile.backends.ckks.ring import CkksRing, primes
from hecompile.backends.seal_files import ARRAY_BYTES, HEADER_BYTES, MEMBERS_BYTES, PRNG_BLAKE2XB, array, header, members
from hecompile.backends.words import SEED_BYTES, pack_bits, packed_bytes, unpack_bits
from hecompile.errors import InternalError, ProtocolError

__all__ = [
    "SEAL_ERRORS", "Encoder", "context_of", "encoder_of", "evaluator_of", "fresh_bytes", "load_answer", "load_fresh", "parms_id",
    "reply_bytes", "save_answer", "seal_words", "split_fresh",
]  # fmt: skip

Words = npt.NDArray[np.uint64]

SEAL_ERRORS = (
    ArithmeticError,
    IndexError,
    RuntimeError,
    ValueError,
)  # what exceptions of SEAL become in Python, apart from MemoryError


def _context(dimension: int, moduli: tuple[int, ...], chain: bool) -> Any:
    """SEAL's context for these primes, with all lower levels (SEAL's modulus chain) if `chain`, else with the highest alone."""
    parameters = seal.EncryptionParameters(seal.scheme_type.ckks)
    parameters.set_poly_modulus_degree(dimension)
    parameters.set_coeff_modulus([seal.Modulus(prime) for prime in moduli])
    return seal.SEALContext(parameters, chain, seal.sec_level_type.tc128)


@lru_cache(maxsize=16)
def context_of(ring: CkksRing) -> Any:
    """SEAL's context for a ring.

    Raises:
        ProtocolError: if SEAL refuses the ring, which it also does for less than 128 bits of security by its own table.
    """
    context = _context(ring.dimension, primes(ring), True)
    if not context.parameters_set():
        raise ProtocolError(f"SEAL refuses {ring}: {context.parameter_error_message()}")
    return context


class Encoder:
    """Encodes numbers as SEAL's plaintexts at any level of a ring, and decodes plaintexts.

    SEAL's own encoder encodes at the highest level of its context, and switching down from there takes up to four times as long as
    encoding at the level that is wanted. So every level gets a context of its own when it is first used.
    """

    def __init__(self, ring: CkksRing) -> None:
        self._ring, self._whole = ring, seal.CKKSEncoder(context_of(ring))
        self._encoders = {ring.depth: self._whole}

    def encode(self, values: npt.NDArray[np.float64] | float, level: int, scale: float) -> Any:
        """The plaintext of values (slots), or of one number in all slots, at a level and scale."""
        if level not in self._encoders:
            moduli = primes(self._ring)
            context = _context(self._ring.dimension, (*moduli[: level + 1], moduli[-1]), False)
            self._encoders[level] = seal.CKKSEncoder(context)
        return self._encoders[level].encode(values, scale)

    def decode(self, plain: Any) -> npt.NDArray[np.float64]:
        """The slots (slots) of a plaintext of any level, as float64."""
        return np.asarray(self._whole.decode(plain), np.float64)


@lru_cache(maxsize=16)
def encoder_of(ring: CkksRing) -> Encoder:
    """The encoder of a ring, made once."""
    return Encoder(ring)


@lru_cache(maxsize=16)
def evaluator_of(ring: CkksRing) -> Any:
    """SEAL's evaluator for a ring, made once."""
    return seal.Evaluator(context_of(ring))


@lru_cache(maxsize=64)
def parms_id(ring: CkksRing, level: int) -> list[int]:
    """SEAL's name for a level of a ring: four words of 64 bits."""
    data = context_of(ring).first_context_data()
    while data.chain_index() > level:
        data = data.next_context_data()
    name: list[int] = data.parms_id()
    return name


@lru_cache(maxsize=256)
def _members(ring: CkksRing, level: int, scale: float) -> bytes:
    """The bytes of a ciphertext of two polynomials before its words, as SEAL writes them, with this level and scale."""
    cipher = seal.Ciphertext(context_of(ring), parms_id(ring, level))
    plain = bytearray(members(cipher.to_string(seal.compr_mode_type.none))[:MEMBERS_BYTES])
    struct.pack_into("<BQ", plain, 32, 1, 2)  # NTT form and size stand after the 32 bytes of parms_id
    struct.pack_into("<d", plain, 57, scale)
    return bytes(plain)


def fresh_bytes(ring: CkksRing, level: int) -> int:
    """Bytes of a fresh ciphertext as it is sent: the words of one polynomial, and the seed of the other."""
    return sum(packed_bytes(ring.dimension, bits) for bits in ring.bits[: level + 1]) + SEED_BYTES


def reply_bytes(ring: CkksRing, level: int) -> int:
    """Bytes of an answer as it is sent: the words of both polynomials."""
    return 2 * sum(packed_bytes(ring.dimension, bits) for bits in ring.bits[: level + 1])


def split_fresh(fields: bytes, ring: CkksRing, level: int) -> bytes:
    """Turn a seeded ciphertext as SEAL wrote it, without its header, into the bytes that are sent.

    Raises:
        InternalError: if SEAL wrote it without a seed.
    """
    count = (level + 1) * ring.dimension
    first = MEMBERS_BYTES + ARRAY_BYTES
    last = first + 8 * count
    if len(fields) != last + HEADER_BYTES + 1 + SEED_BYTES or fields[last + HEADER_BYTES] != PRNG_BLAKE2XB:
        raise InternalError("SEAL wrote a fresh ciphertext without the seed that hecompile expects")
    words = np.frombuffer(fields[first:last], np.uint64).reshape(level + 1, ring.dimension)
    return _pack(words, ring) + fields[last + HEADER_BYTES + 1 :]


def load_fresh(data: memoryview, ring: CkksRing, level: int, scale: float) -> Any:
    """Load the ciphertext of which `split_fresh` made the bytes.

    Raises:
        ProtocolError: if a word is not below its prime, or if SEAL refuses the ciphertext.
    """
    words = _unpack(data[:-SEED_BYTES], ring, level, 1)
    generator = header(1 + SEED_BYTES) + bytes([PRNG_BLAKE2XB]) + bytes(data[-SEED_BYTES:])
    return _load(ring, level, scale, array(words.tobytes(), words.size) + generator)


def seal_words(cipher: Any) -> Words:
    """All words of a ciphertext (polynomials x primes x N), flat."""
    return np.frombuffer(members(cipher.to_string(seal.compr_mode_type.none)), np.uint64, offset=MEMBERS_BYTES + ARRAY_BYTES)


def save_answer(cipher: Any, ring: CkksRing, level: int) -> bytes:
    """The bytes of a ciphertext of two polynomials, as an answer is sent."""
    return b"".join(_pack(part, ring) for part in seal_words(cipher).reshape(2, level + 1, ring.dimension))


def load_answer(data: memoryview, ring: CkksRing, level: int, scale: float) -> Any:
    """Load the ciphertext of which `save_answer` made the bytes. Raises `ProtocolError` as `load_fresh` does."""
    words = _unpack(data, ring, level, 2)
    return _load(ring, level, scale, array(words.tobytes(), words.size))


def _load(ring: CkksRing, level: int, scale: float, rest: bytes) -> Any:
    """Load a ciphertext with SEAL, of which `rest` are the bytes after its fields. Raises `ProtocolError`."""
    before = _members(ring, level, scale)
    try:
        return context_of(ring).from_cipher_str(header(len(before) + len(rest)) + before + rest)
    except SEAL_ERRORS as error:
        raise ProtocolError(f"SEAL refuses a ciphertext: {error}") from error


def _pack(words: Words, ring: CkksRing) -> bytes:
    """Pack words (level + 1, N), each row with as many bits a word as its prime has."""
    return b"".join(pack_bits(row, bits) for row, bits in zip(words, ring.bits, strict=False))


def _unpack(data: memoryview, ring: CkksRing, level: int, parts: int) -> Words:
    """Unpack the words (parts, level + 1, N). Raises `ProtocolError` if one is not below its prime."""
    words, start = np.empty((parts, level + 1, ring.dimension), np.uint64), 0
    for part in words:
        for row, bits, prime in zip(part, ring.bits, primes(ring), strict=False):
            size = packed_bytes(ring.dimension, bits)
            row[:] = unpack_bits(data[start : start + size], ring.dimension, bits)
            if (row >= np.uint64(prime)).any():
                raise ProtocolError("a word of a ciphertext is not below its prime")
            start += size
    return words
