"""SEAL's file of one seeded evaluation key, byte for byte but for its words and seeds.

    header | parms_id | how many lists | lists before, all empty | primes - 1 | that many ciphertexts | lists after, all empty

A list is its length and its ciphertexts. A relinearization key is the only list of its file; the key of Galois element g is list
(g - 1) / 2 of N. Every ciphertext has the words of one polynomial modulo all primes, and the seed of the other. A file of this form
holds one key, and takes no more memory than its name says when it is loaded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hecompile.backends.seal_files import ARRAY_BYTES, HEADER_BYTES, MEMBERS_BYTES, PRNG_BLAKE2XB, header
from hecompile.backends.words import SEED_BYTES
from hecompile.errors import ProtocolError

__all__ = ["KeyFile"]

_HEAD_BYTES = HEADER_BYTES + 32 + 8  # header, parms_id, count of lists
_LIST_BYTES = 24  # that an empty list takes in memory


@dataclass(frozen=True)
class KeyFile:
    """The form of a key's file: dimension N, how many primes, how many lists, and which of them is the key."""

    dimension: int
    primes: int
    lists: int
    place: int

    @property
    def _words_bytes(self) -> int:
        return 8 * self.primes * self.dimension

    @property
    def _before(self) -> int:
        """Bytes of a ciphertext before its words."""
        return HEADER_BYTES + MEMBERS_BYTES + ARRAY_BYTES

    @property
    def _entry_bytes(self) -> int:
        return self._before + self._words_bytes + HEADER_BYTES + 1 + SEED_BYTES

    @property
    def element(self) -> int:
        """The Galois element that the key is for."""
        return 2 * self.place + 1

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return _HEAD_BYTES + 8 * self.lists + (self.primes - 1) * self._entry_bytes

    @property
    def held_bytes(self) -> int:
        """Memory of the loaded key: both polynomials of every ciphertext, and the lists."""
        return (self.primes - 1) * 2 * self._words_bytes + _LIST_BYTES * self.lists

    def judge(self, data: memoryview, parms_id: bytes) -> None:
        """Raises `ProtocolError` saying what is wrong if the data are no such file for the parameters of this name."""
        if len(data) != self.size:
            raise ProtocolError(f"{len(data)} bytes instead of {self.size}: cut off, another key, or more than one")
        if data[:HEADER_BYTES] != header(self.size - HEADER_BYTES):
            raise ProtocolError("no file of SEAL without compression")
        if data[HEADER_BYTES : HEADER_BYTES + 32] != parms_id:
            raise ProtocolError("a key for another ring")
        start = _HEAD_BYTES + 8 * (self.place + 1)
        counts = bytes(8 * self.place) + struct.pack("<Q", self.primes - 1)
        if data[_HEAD_BYTES - 8 : start] != struct.pack("<Q", self.lists) + counts:
            raise ProtocolError("another key, or none, is in its file")
        before, after = self._frame(parms_id)
        for _ in range(self.primes - 1):
            words = start + len(before)
            seed = words + self._words_bytes + len(after)
            if data[start:words] != before or data[seed - len(after) : seed] != after:
                raise ProtocolError("a ciphertext of another form is in its file")
            start = seed + SEED_BYTES
        if data[start:] != bytes(len(data) - start):
            raise ProtocolError("another key besides is in its file")

    def _frame(self, parms_id: bytes) -> tuple[bytes, bytes]:
        """What SEAL writes around the words of each ciphertext: NTT form, two polynomials, scale 1, correction factor 1."""
        members = parms_id + struct.pack("<BQQQdQ", 1, 2, self.dimension, self.primes, 1.0, 1)
        words = header(8 + self._words_bytes) + struct.pack("<Q", self.primes * self.dimension)
        generator = header(1 + SEED_BYTES) + bytes([PRNG_BLAKE2XB])
        size = len(members) + len(words) + self._words_bytes + len(generator) + SEED_BYTES
        return header(size) + members + words, generator
