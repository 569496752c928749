"""The form of SEAL's file of one seeded evaluation key: every byte of it but the words and seeds.

    header | parms_id | how many lists | lists before, all empty | primes - 1 | that many ciphertexts | lists after, all empty

A list is its length and its ciphertexts. A relinearization key is the only list of its file, and the key of Galois element g is
list (g - 1) / 2 of N lists. Every ciphertext has the words of one polynomial modulo all primes, and the seed of the other. A file
of this form holds exactly one key, so it takes no more memory when SEAL loads it than its name says.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hecompile.backends.seal_files import ARRAY_BYTES, HEADER_BYTES, MEMBERS_BYTES, PRNG_BLAKE2XB, header
from hecompile.backends.words import SEED_BYTES
from hecompile.errors import ProtocolError

__all__ = ["KeyFile"]

_HEAD_BYTES = HEADER_BYTES + 32 + 8  # header, parms_id, count of lists
_LIST_BYTES = 24  # of memory for an empty list


@dataclass(frozen=True)
class KeyFile:
    """The form of the file in which SEAL stores a key of dimension N. It has `lists` lists, all empty but the one at `place`."""

    dimension: int
    primes: int
    lists: int
    place: int

    @property
    def _words_bytes(self) -> int:
        """Bytes of the words of one ciphertext."""
        return 8 * self.primes * self.dimension

    @property
    def _before(self) -> int:
        """How many bytes of a ciphertext come before its words."""
        return HEADER_BYTES + MEMBERS_BYTES + ARRAY_BYTES

    @property
    def _entry_bytes(self) -> int:
        """Bytes of one ciphertext."""
        return self._before + self._words_bytes + HEADER_BYTES + 1 + SEED_BYTES

    @property
    def element(self) -> int:
        """The Galois element that the key is for."""
        return 2 * self.place + 1

    @property
    def size(self) -> int:
        """Size of the file in bytes."""
        return _HEAD_BYTES + 8 * self.lists + (self.primes - 1) * self._entry_bytes

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that the loaded key takes: both polynomials of every ciphertext, and the lists."""
        return (self.primes - 1) * 2 * self._words_bytes + _LIST_BYTES * self.lists

    def check(self, data: memoryview, parms_id: bytes) -> None:
        """Check that `data` is such a file for the encryption parameters with SEAL's name `parms_id`.

        Raises:
            ProtocolError: saying what is wrong with it.
        """
        if len(data) != self.size:
            raise ProtocolError(f"{len(data)} bytes instead of {self.size}: cut off, another key, or more than one")
        if data[:HEADER_BYTES] != header(self.size - HEADER_BYTES):
            raise ProtocolError("this is not an uncompressed file of SEAL")
        if data[HEADER_BYTES : HEADER_BYTES + 32] != parms_id:
            raise ProtocolError("a key for another ring")
        start = _HEAD_BYTES + 8 * (self.place + 1)
        counts = bytes(8 * self.place) + struct.pack("<Q", self.primes - 1)
        if data[_HEAD_BYTES - 8 : start] != struct.pack("<Q", self.lists) + counts:
            raise ProtocolError("its file holds another key, or no key")
        before, after = self._frame(parms_id)
        for _ in range(self.primes - 1):
            words = start + len(before)
            seed = words + self._words_bytes + len(after)
            if data[start:words] != before or data[seed - len(after) : seed] != after:
                raise ProtocolError("its file holds a ciphertext of another form")
            start = seed + SEED_BYTES
        if data[start:] != bytes(len(data) - start):
            raise ProtocolError("its file holds a second key")

    def _frame(self, parms_id: bytes) -> tuple[bytes, bytes]:
        """The bytes that SEAL writes before and after each ciphertext's words. It has NTT form, two polynomials and scale 1."""
        members = parms_id + struct.pack("<BQQQdQ", 1, 2, self.dimension, self.primes, 1.0, 1)
        words = header(8 + self._words_bytes) + struct.pack("<Q", self.primes * self.dimension)
        generator = header(1 + SEED_BYTES) + bytes([PRNG_BLAKE2XB])
        size = len(members) + len(words) + self._words_bytes + len(generator) + SEED_BYTES
        return header(size) + members + words, generator
