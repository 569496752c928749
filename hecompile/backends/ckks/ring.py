"""Rings of the `ckks` backend: their dimension and their primes. `choose.py` finds the ring that a region needs.

A ciphertext at level l has coefficients modulo q_0 ... q_l, and rescaling drops q_l. One more prime, the special one, is used for
key switching only, and counts for security like the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from hecompile.errors import ProtocolError

__all__ = ["DIMENSIONS", "CkksRing", "primes"]

DIMENSIONS = (4096, 8192, 16384)  # keys at 32768 take gigabytes


@dataclass(frozen=True)
class CkksRing:
    """Public CKKS parameters: the dimension N and how many bits each prime has. `primes` gives the primes themselves.

    Raises:
        ProtocolError: when built with a dimension or with bits that are out of range.
    """

    dimension: int
    bits: tuple[int, ...]  # of q_0 ... q_depth
    special_bits: int

    def __post_init__(self) -> None:
        allowed = all(20 <= bits <= 60 for bits in (*self.bits, self.special_bits))
        if self.dimension not in DIMENSIONS or not 1 < len(self.bits) <= 24 or not allowed:
            raise ProtocolError(f"ring out of range: {self}")

    @property
    def slots(self) -> int:
        """How many numbers one ciphertext holds: N / 2."""
        return self.dimension // 2

    @property
    def depth(self) -> int:
        """The highest level: how many rescalings a fresh ciphertext allows."""
        return len(self.bits) - 1

    @property
    def scale(self) -> float:
        """The scale that values have between two operations: a power of two close to each prime but the first."""
        return float(2.0 ** self.bits[-1])

    @property
    def q_bits(self) -> int:
        """Bits of all primes together, with the special one. Security is judged by this number."""
        return sum(self.bits) + self.special_bits

    @property
    def name(self) -> str:
        """A short text that tells rings apart, such as "N8192 q36+5x28+36". Names of evaluation keys begin with it."""
        return f"N{self.dimension} q{self.bits[0]}+{self.depth}x{self.bits[-1]}+{self.special_bits}"

    def insecure(self, security_bits: int) -> str:
        """Return the reason why this ring gives less than `security_bits` of security, or an empty text if it gives as much."""
        from hecompile.security.table import report

        security = report(self.dimension, self.q_bits, security_bits)
        if security.ok:
            return ""
        return f"{security.q_bits} modulus bits at dimension {security.dimension} give less than {security_bits} bits of security"


@lru_cache(maxsize=64)
def primes(ring: CkksRing) -> tuple[int, ...]:
    """The primes q_0 ... q_depth of a ring, followed by the special prime. SEAL picks the same ones every time.

    Raises:
        ProtocolError: if there are too few primes of these bits.
    """
    from hecompile.backends.ckks.library import seal

    try:
        moduli = seal.CoeffModulus.Create(ring.dimension, [*ring.bits, ring.special_bits])
    except (ValueError, RuntimeError, IndexError) as error:
        raise ProtocolError(f"SEAL finds no primes for {ring}: {error}") from error
    return tuple(int(modulus.value()) for modulus in moduli)
