"""The only module that talks to SEAL: contexts, keys, and ciphertexts as arrays of words.

Sampling, key generation, encryption and decryption are SEAL's. This module writes and reads SEAL's documented file format
(`seal/serialization.h`, version 4.x) to get at the words; it refuses any other version. Files are memory files
(`memfd_create`): plaintexts pass through them, so they never have a name in a folder.
"""

from __future__ import annotations

import os
import struct
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import tenseal.sealapi as seal
import zstandard

from hecompile.backends.bfv.bits import SEED_BYTES
from hecompile.errors import InternalError, ProtocolError

__all__ = ["SEED_BYTES", "Ring", "SecretKey", "Words", "expand_seeds", "make_ring"]

Words = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]

_MAGIC, _HEADER_BYTES, _MAJOR = 0xA15E, 16, 4
_PRNG_BLAKE2XB = 1
_MEMBERS_BYTES = 73  # of a ciphertext, before its words: parms_id, NTT flag, size, N, primes, scale, correction factor
_ARRAY_BYTES = 24  # header of the array of words and its count


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


class _File(threading.local):
    """One memory file per thread."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("hecompile", os.MFD_CLOEXEC)
        self.path = f"/proc/self/fd/{self.descriptor}"

    def write(self, blob: bytes) -> str:
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, blob, 0)
        return self.path

    def read(self) -> bytes:
        blob = os.pread(self.descriptor, os.fstat(self.descriptor).st_size, 0)
        magic, header, major, _, mode, _, size = struct.unpack("<HBBBBHQ", blob[:_HEADER_BYTES])
        if (magic, header, major) != (_MAGIC, _HEADER_BYTES, _MAJOR) or size != len(blob):
            raise InternalError(f"SEAL wrote format version {major}: hecompile knows version {_MAJOR} only")
        if mode == 2:
            members: bytes = zstandard.ZstdDecompressor().decompressobj().decompress(blob[_HEADER_BYTES:])
            return members
        if mode == 0:
            return blob[_HEADER_BYTES:]
        raise InternalError(f"SEAL compressed a file in mode {mode}: hecompile knows 0 and 2")


_FILE = _File()


def _header(payload: int) -> bytes:
    """SEAL's 16-byte header for an uncompressed object of `payload` bytes."""
    return struct.pack("<HBBBBHQ", _MAGIC, _HEADER_BYTES, _MAJOR, 3, 0, 0, _HEADER_BYTES + payload)


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
    prime = seal.CoeffModulus.Create(dimension, [q_bits])[0].value()
    ring = Ring(dimension, int(prime), t)
    _context(ring)
    return ring


@lru_cache(maxsize=64)
def _members(ring: Ring) -> bytes:
    """The fields of a ciphertext of two polynomials before its words, as SEAL itself writes them."""
    context = _context(ring)
    cipher = seal.Ciphertext(context)
    cipher.resize(context, 2)
    cipher.save(_FILE.path)
    return _FILE.read()[:_MEMBERS_BYTES]


def _array(data: bytes, count: int) -> bytes:
    return _header(8 + len(data)) + struct.pack("<Q", count) + data


def expand_seeds(ring: Ring, seeds: npt.NDArray[np.uint8]) -> Words:
    """The polynomials `a` that SEAL draws from public seeds: (G, 64) -> (G, N) words below q.

    SEAL does it when it loads a seeded ciphertext; the other polynomial of that ciphertext is zero here.
    """
    context, members, zeros = _context(ring), _members(ring), bytes(8 * ring.dimension)
    result = np.empty((len(seeds), ring.dimension), np.uint64)
    generator = _header(1 + SEED_BYTES) + bytes([_PRNG_BLAKE2XB])
    array = _array(zeros, ring.dimension)
    start = _header(len(members) + len(array) + len(generator) + SEED_BYTES) + members + array + generator
    for row, seed in zip(result, seeds, strict=True):
        cipher = seal.Ciphertext(context)
        cipher.load(context, _FILE.write(start + seed.tobytes()))
        cipher.save(_FILE.path)
        words = np.frombuffer(_FILE.read(), np.uint64, offset=_MEMBERS_BYTES + _ARRAY_BYTES)
        row[:] = words[ring.dimension :]
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
        start = _header(len(fields) + _HEADER_BYTES + 8 + 8 * ring.dimension) + fields
        plain = seal.Plaintext()
        for row, seed, value in zip(words, seeds, values, strict=True):
            plain.load(context, _FILE.write(start + _array(value.tobytes(), ring.dimension)))
            self._encryptor.encrypt_symmetric(plain).save(_FILE.path)
            members = _FILE.read()
            first = _MEMBERS_BYTES + _ARRAY_BYTES
            last = first + 8 * ring.dimension
            if len(members) != last + _HEADER_BYTES + 1 + SEED_BYTES or members[last + _HEADER_BYTES] != _PRNG_BLAKE2XB:
                raise InternalError("SEAL wrote a fresh ciphertext without the seed that hecompile expects")
            row[:] = np.frombuffer(members[first:last], np.uint64)
            seed[:] = np.frombuffer(members[last + _HEADER_BYTES + 1 :], np.uint8)
        _FILE.write(b"")
        return words, seeds

    def decrypt(self, b: Words, a: Words) -> Integers:
        """Ciphertexts as words below q: (G, N) and (G, N) -> coefficients in [-t/2, t/2): (G, N)."""
        ring, context, members = self.ring, _context(self.ring), _members(self.ring)
        result = np.zeros(b.shape, np.int64)
        start = _header(len(members) + _ARRAY_BYTES + 16 * ring.dimension) + members
        start += _header(8 + 16 * ring.dimension) + struct.pack("<Q", 2 * ring.dimension)
        cipher, plain = seal.Ciphertext(context), seal.Plaintext()
        for row, first, second in zip(result, b, a, strict=True):
            if not first.any() and not second.any():
                continue  # SEAL refuses the "transparent" zero ciphertext, whose plaintext is zero
            cipher.load(context, _FILE.write(start + first.tobytes() + second.tobytes()))
            self._decryptor.decrypt(cipher, plain)
            plain.save(_FILE.path)
            values = np.frombuffer(_FILE.read(), np.uint64, offset=48 + _ARRAY_BYTES)
            row[: len(values)] = values
        _FILE.write(b"")
        return np.where(result >= ring.t // 2, result - ring.t, result)
