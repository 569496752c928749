"""BFV by SEAL: contexts, keys, and ciphertexts as arrays of words. Sampling, keys, encryption and decryption are SEAL's."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import tenseal.sealapi as seal

from hecompile.backends.bfv.bits import SEED_BYTES
from hecompile.backends.seal_files import ARRAY_BYTES, FILE, HEADER_BYTES, MEMBERS_BYTES, PRNG_BLAKE2XB, array, header
from hecompile.errors import InternalError, ProtocolError

__all__ = ["SEED_BYTES", "Ring", "SecretKey", "Words", "expand_seeds", "make_ring"]

Words = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ring:
    """Public BFV parameters: dimension N, one prime q, plaintext modulus t."""

    dimension: int
    q: int
    t: int

    @property
    def q_bits(self) -> int:
        """Bits of a word on the wire."""
        return self.q.bit_length()


@lru_cache(maxsize=64)
def _context(ring: Ring) -> Any:
    parameters = seal.EncryptionParameters(seal.SCHEME_TYPE.BFV)
    parameters.set_poly_modulus_degree(ring.dimension)
    parameters.set_coeff_modulus([seal.Modulus(ring.q)])
    parameters.set_plain_modulus(ring.t)
    context = seal.SEALContext(parameters, True, seal.SEC_LEVEL_TYPE.TC128)
    if not context.parameters_set():
        raise ProtocolError(f"SEAL refuses {ring}: {context.parameters_error_message()}")
    return context


@lru_cache(maxsize=256)
def make_ring(dimension: int, q_bits: int, t: int) -> Ring:
    """The ring whose prime SEAL picks for `q_bits` bits (the same prime every time).

    Raises:
        ProtocolError: if SEAL refuses the parameters.
    """
    try:
        prime = seal.CoeffModulus.Create(dimension, [q_bits])[0].value()
    except (ValueError, RuntimeError, IndexError) as error:
        raise ProtocolError(f"SEAL finds no prime of {q_bits} bits for dimension {dimension}: {error}") from error
    ring = Ring(dimension, int(prime), t)
    _context(ring)
    return ring


@lru_cache(maxsize=64)
def _members(ring: Ring) -> bytes:
    """The fields of a ciphertext of two polynomials before its words, as SEAL itself writes them."""
    context = _context(ring)
    cipher = seal.Ciphertext(context)
    cipher.resize(context, 2)
    cipher.save(FILE.path)
    return FILE.read()[:MEMBERS_BYTES]


def expand_seeds(ring: Ring, seeds: npt.NDArray[np.uint8]) -> Words:
    """The polynomials `a` that SEAL draws from public seeds: (G, 64) -> (G, N) words below q.

    SEAL does it when it loads a seeded ciphertext; the other polynomial of that ciphertext is zero here.
    """
    context, members, zeros = _context(ring), _members(ring), bytes(8 * ring.dimension)
    result = np.empty((len(seeds), ring.dimension), np.uint64)
    generator = header(1 + SEED_BYTES) + bytes([PRNG_BLAKE2XB])
    words = array(zeros, ring.dimension)
    start = header(len(members) + len(words) + len(generator) + SEED_BYTES) + members + words + generator
    for row, seed in zip(result, seeds, strict=True):
        cipher = seal.Ciphertext(context)
        cipher.load(context, FILE.write(start + seed.tobytes()))
        cipher.save(FILE.path)
        row[:] = np.frombuffer(FILE.read(), np.uint64, offset=MEMBERS_BYTES + ARRAY_BYTES)[ring.dimension :]
    return result


class SecretKey:
    """A fresh secret key and what it is for. Never leaves the client, never printed."""

    __slots__ = ("_decryptor", "_encryptor", "ring")

    def __init__(self, ring: Ring) -> None:
        context = _context(ring)
        key = seal.KeyGenerator(context).secret_key()
        self.ring = ring
        self._encryptor = seal.Encryptor(context, key)
        self._decryptor = seal.Decryptor(context, key)

    def __repr__(self) -> str:
        return "SecretKey(hidden)"

    def encrypt(self, coefficients: Integers) -> tuple[Words, npt.NDArray[np.uint8]]:
        """Polynomials with coefficients in (-t/2, t/2): (G, N) -> words `b` (G, N) and seeds of `a` (G, 64)."""
        ring, context = self.ring, _context(self.ring)
        values = np.where(coefficients < 0, coefficients + ring.t, coefficients).astype(np.uint64)
        words = np.empty(values.shape, np.uint64)
        seeds = np.empty((len(values), SEED_BYTES), np.uint8)
        fields = bytes(32) + struct.pack("<Qd", ring.dimension, 1.0)
        start = header(len(fields) + HEADER_BYTES + 8 + 8 * ring.dimension) + fields
        plain = seal.Plaintext()
        for row, seed, value in zip(words, seeds, values, strict=True):
            plain.load(context, FILE.write(start + array(value.tobytes(), ring.dimension)))
            self._encryptor.encrypt_symmetric(plain).save(FILE.path)
            members = FILE.read()
            first = MEMBERS_BYTES + ARRAY_BYTES
            last = first + 8 * ring.dimension
            if len(members) != last + HEADER_BYTES + 1 + SEED_BYTES or members[last + HEADER_BYTES] != PRNG_BLAKE2XB:
                raise InternalError("SEAL wrote a fresh ciphertext without the seed that hecompile expects")
            row[:] = np.frombuffer(members[first:last], np.uint64)
            seed[:] = np.frombuffer(members[last + HEADER_BYTES + 1 :], np.uint8)
        FILE.write(b"")
        return words, seeds

    def decrypt(self, b: Words, a: Words) -> Integers:
        """Ciphertexts as words below q: (G, N) and (G, N) -> coefficients in [-t/2, t/2): (G, N)."""
        ring, context, members = self.ring, _context(self.ring), _members(self.ring)
        result = np.zeros(b.shape, np.int64)
        start = header(len(members) + ARRAY_BYTES + 16 * ring.dimension) + members
        start += header(8 + 16 * ring.dimension) + struct.pack("<Q", 2 * ring.dimension)
        cipher, plain = seal.Ciphertext(context), seal.Plaintext()
        for row, first, second in zip(result, b, a, strict=True):
            if not first.any() and not second.any():
                continue  # SEAL refuses the "transparent" zero ciphertext, whose plaintext is zero
            cipher.load(context, FILE.write(start + first.tobytes() + second.tobytes()))
            self._decryptor.decrypt(cipher, plain)
            plain.save(FILE.path)
            values = np.frombuffer(FILE.read(), np.uint64, offset=48 + ARRAY_BYTES)
            row[: len(values)] = values
        FILE.write(b"")
        return np.where(result >= ring.t // 2, result - ring.t, result)
