"""Rings of the `ckks` backend: dimension and primes from the number of levels that a region needs, within the security table.

A value at level l lives modulo q_0 ... q_l; a rescaling drops q_l. One more prime, the special one, serves key switching only and
counts for security like the others.
"""

from __future__ import annotations

from dataclasses import dataclass

from hecompile.errors import CompileError, Diagnostic, ProtocolError
from hecompile.security.table import max_q_bits, report

__all__ = ["DIMENSIONS", "HEADROOM", "Ring", "ring_for"]

DIMENSIONS = (4096, 8192, 16384)  # keys at 32768 take gigabytes
HEADROOM = 8  # bits of q_0 above the scale: values up to 2^7
SCALE_BITS = (21, 32)  # least for an error of 2^-10, most that is of use; whole bytes are packed fast


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
        found = report(self.dimension, self.q_bits, security_bits)
        if found.ok:
            return ""
        return f"{found.q_bits} modulus bits at dimension {found.dimension} give less than {security_bits} bits of security"


def ring_for(depth: int, slots: int, where: str, security_bits: int = 128, least_dimension: int = 0) -> Ring:
    """The smallest ring with this many levels and slots, of `least_dimension` or more.

    Raises:
        CompileError: naming `where`, if there is none.
    """
    for dimension in DIMENSIONS:
        scale_bits = min(SCALE_BITS[1], (max_q_bits(dimension, security_bits) - 2 * HEADROOM) // (depth + 2))
        if scale_bits >= SCALE_BITS[0] and dimension // 2 >= slots and dimension >= least_dimension:
            return Ring(dimension, (scale_bits + HEADROOM, *(scale_bits,) * depth), scale_bits + HEADROOM)
    raise CompileError(
        Diagnostic(
            f"{where} needs {depth} levels and {slots} slots: no ring up to dimension {DIMENSIONS[-1]} carries them at "
            f"{security_bits} bits of security",
            help="lower the degree of its polynomials, let the client compute one of its activations, or use --backend bfv",
        )
    )
