"""SEAL as an independent judge of our encryption, through its own API: a library that we did not write decrypts and encrypts."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import tenseal.sealapi as seal

from hecompile.backends.seal_files import ARRAY_BYTES, FILE, HEADER_BYTES, MEMBERS_BYTES, array, header

__all__ = ["Judge", "SealRing"]

Integers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class SealRing:
    """BFV parameters for SEAL: dimension N, one prime q of our table, plaintext modulus t."""

    dimension: int
    q: int
    t: int


@lru_cache(maxsize=64)
def _context(ring: SealRing) -> Any:
    parameters = seal.EncryptionParameters(seal.SCHEME_TYPE.BFV)
    parameters.set_poly_modulus_degree(ring.dimension)
    parameters.set_coeff_modulus([seal.Modulus(ring.q)])
    parameters.set_plain_modulus(ring.t)
    context = seal.SEALContext(parameters, True, seal.SEC_LEVEL_TYPE.TC128)
    assert context.parameters_set(), context.parameters_error_message()
    return context


@lru_cache(maxsize=64)
def _empty_members(ring: SealRing) -> bytes:
    """The fields of a ciphertext of two polynomials before its words."""
    cipher = seal.Ciphertext(_context(ring))
    cipher.resize(_context(ring), 2)
    cipher.save(FILE.path)
    return FILE.read()[:MEMBERS_BYTES]


class Judge:
    """A secret key that SEAL drew, with SEAL's encryption and decryption under it."""

    def __init__(self, ring: SealRing) -> None:
        self.ring = ring
        self._key = seal.KeyGenerator(_context(ring)).secret_key()
        self._encryptor = seal.Encryptor(_context(ring), self._key)
        self._decryptor = seal.Decryptor(_context(ring), self._key)

    @property
    def secret(self) -> Integers:
        """The ternary secret (N): what SEAL decrypts of the words b = 0 and a = q / t."""
        a = np.zeros((1, self.ring.dimension), np.uint64)
        a[0, 0] = self.ring.q // self.ring.t
        return self.decrypt(np.zeros_like(a), a)[0]

    def encrypt(self, coefficients: Integers) -> tuple[Words, Words]:
        """Polynomials with coefficients in (-t/2, t/2): (G, N) -> words `b` and `a`, (G, N) each, coefficients both."""
        ring, context = self.ring, _context(self.ring)
        values = np.where(coefficients < 0, coefficients + ring.t, coefficients).astype(np.uint64)
        b, a = np.empty(values.shape, np.uint64), np.empty(values.shape, np.uint64)
        fields = bytes(32) + struct.pack("<Qd", ring.dimension, 1.0)
        start = header(len(fields) + HEADER_BYTES + 8 + 8 * ring.dimension) + fields
        plain, cipher = seal.Plaintext(), seal.Ciphertext(context)
        for first, second, value in zip(b, a, values, strict=True):
            plain.load(context, FILE.write(start + array(value.tobytes(), ring.dimension)))
            self._encryptor.encrypt_symmetric(plain).save(FILE.path)
            cipher.load(context, FILE.path)  # SEAL expands its seed
            cipher.save(FILE.path)
            words = np.frombuffer(FILE.read(), np.uint64, offset=MEMBERS_BYTES + ARRAY_BYTES)
            first[:], second[:] = words[: ring.dimension], words[ring.dimension :]
        return b, a

    def decrypt(self, b: Words, a: Words) -> Integers:
        """Words below q, coefficients both: (G, N) and (G, N) -> coefficients in [-t/2, t/2): (G, N)."""
        ring, context, fields = self.ring, _context(self.ring), _empty_members(self.ring)
        result = np.zeros(b.shape, np.int64)
        start = header(len(fields) + ARRAY_BYTES + 16 * ring.dimension) + fields
        start += header(8 + 16 * ring.dimension) + struct.pack("<Q", 2 * ring.dimension)
        cipher, plain = seal.Ciphertext(context), seal.Plaintext()
        for row, first, second in zip(result, b, a, strict=True):
            if not first.any() and not second.any():
                continue  # SEAL refuses the zero ciphertext, whose plaintext is zero
            cipher.load(context, FILE.write(start + first.tobytes() + second.tobytes()))
            self._decryptor.decrypt(cipher, plain)
            plain.save(FILE.path)
            values = np.frombuffer(FILE.read(), np.uint64, offset=48 + ARRAY_BYTES)
            row[: len(values)] = values
        return np.where(result >= ring.t // 2, result - ring.t, result)
