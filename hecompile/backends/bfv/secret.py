"""The secret key of `bfv`, and all that takes one: encryption and decryption, by SEAL. Of the client alone."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt
import tenseal.sealapi as seal

from hecompile.backends.bfv.seal import Ring, Words, context_of, empty_members
from hecompile.backends.seal_files import ARRAY_BYTES, FILE, HEADER_BYTES, MEMBERS_BYTES, PRNG_BLAKE2XB, array, header
from hecompile.backends.words import SEED_BYTES
from hecompile.errors import InternalError

__all__ = ["SecretKey"]

Integers = npt.NDArray[np.int64]


class SecretKey:
    """A fresh secret key and what it is for. Never leaves the client, never printed."""

    __slots__ = ("_decryptor", "_encryptor", "ring")

    def __init__(self, ring: Ring) -> None:
        context = context_of(ring)
        key = seal.KeyGenerator(context).secret_key()
        self.ring = ring
        self._encryptor = seal.Encryptor(context, key)
        self._decryptor = seal.Decryptor(context, key)

    def __repr__(self) -> str:
        return "SecretKey(hidden)"

    def encrypt(self, coefficients: Integers) -> tuple[Words, npt.NDArray[np.uint8]]:
        """Polynomials with coefficients in (-t/2, t/2): (G, N) -> words `b` (G, N) and seeds of `a` (G, 64)."""
        ring, context = self.ring, context_of(self.ring)
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
        ring, context, members = self.ring, context_of(self.ring), empty_members(self.ring)
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
