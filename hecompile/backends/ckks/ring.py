"""Rings of the `ckks` backend: dimension and primes. `choose` finds the one that a region needs.

A value at level l lives modulo q_0 ... q_l; a rescaling drops q_l. One more prime, the special one, serves key switching only and
counts for security like the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from hecompile.errors import ProtocolError

__all__ = ["DIMENSIONS", "Ring"]

DIMENSIONS = (4096, 8192, 16384)  # keys at 32768 take gigabytes


@dataclass(frozen=True)
class Ring:
    """Public CKKS parameters. The primes are those that SEAL picks for the bits, the same every time."""

    dimension: int
    bits: tuple[int, ...]  # of q_0 ... q_depth
    special_bits: int

    def __post_init__(self) -> None:
        allowed = all(20 <= each <= 60 for each in (*self.bits, self.special_bits))
        if self.dimension not in DIMENSIONS or not 1 < len(self.bits) <= 24 or not allowed:
            raise ProtocolError(f"ring out of range: {self}")

    @property
    def slots(self) -> int:
        return self.dimension // 2

    @property
    def depth(self) -> int:
        """The level of a fresh ciphertext."""
        return len(self.bits) - 1

    @property
    def scale(self) -> float:
        """The scale of values at rest."""
        return float(2.0 ** self.bits[-1])

    @property
    def q_bits(self) -> int:
        """Bits of all primes together, the special one included: what security is judged by."""
        return sum(self.bits) + self.special_bits

    @property
    def name(self) -> str:
        return f"N{self.dimension} q{self.bits[0]}+{self.depth}x{self.bits[-1]}+{self.special_bits}"

    def insecure(self, security_bits: int) -> str:
        """Why this ring gives less than `security_bits`; empty if it does not."""
        from hecompile.security.table import report

        found = report(self.dimension, self.q_bits, security_bits)
        if found.ok:
            return ""
        return f"{found.q_bits} modulus bits at dimension {found.dimension} give less than {security_bits} bits of security"
