"""BFV by SEAL, what is public of it: rings, contexts, polynomials from seeds. No server loads `secret`, which has the keys."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import tenseal.sealapi as seal

from hecompile.backends.seal_files import ARRAY_BYTES, FILE, MEMBERS_BYTES, PRNG_BLAKE2XB, array, header
from hecompile.backends.words import SEED_BYTES
from hecompile.errors import ProtocolError

__all__ = ["SEED_BYTES", "Ring", "Words", "context_of", "empty_members", "expand_seeds", "make_ring"]

Words = npt.NDArray[np.uint64]


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
def context_of(ring: Ring) -> Any:
    """SEAL's context of a ring. Raises `ProtocolError` if SEAL refuses the parameters."""
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
    context_of(ring)
    return ring


@lru_cache(maxsize=64)
def empty_members(ring: Ring) -> bytes:
    """The fields of a ciphertext of two polynomials before its words, as SEAL itself writes them."""
    context = context_of(ring)
    cipher = seal.Ciphertext(context)
    cipher.resize(context, 2)
    cipher.save(FILE.path)
    return FILE.read()[:MEMBERS_BYTES]


def expand_seeds(ring: Ring, seeds: npt.NDArray[np.uint8]) -> Words:
    """The polynomials `a` that SEAL draws from public seeds: (G, 64) -> (G, N) words below q.

    SEAL does it when it loads a seeded ciphertext; the other polynomial of that ciphertext is zero here.
    """
    context, members, zeros = context_of(ring), empty_members(ring), bytes(8 * ring.dimension)
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
