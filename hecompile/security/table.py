"""The security table: how many modulus bits a ring dimension carries at 128 bits of security.

`BITS_128` is what hecompile enforces at compile time and again at load: ternary secret, SEAL's errors, the classical limits of the
Security Guidelines for Implementing Homomorphic Encryption (Bossuat et al., ePrint 2024/463). It is stricter than the table of the
Homomorphic Encryption Standard (Albrecht et al. 2018, ePrint 2019/939, table 1) that SEAL enforces, which older cost models gave.
The standard's classical and quantum rows are kept beside it for the reports. `docs/security-parameters.md` has the bits of every
limit by attack and cost model, and a test holds that nothing else is chosen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hecompile.errors import CompileError, Diagnostic

__all__ = [
    "BITS_128", "ESTIMATES", "HE_STANDARD_128", "HE_STANDARD_128_QUANTUM", "LEVELS", "Estimate", "SecurityReport", "estimate",
    "max_q_bits", "report", "security_bits",
]  # fmt: skip

LEVELS = (128,)  # bits of security that there is a table for
BITS_128 = {1024: 26, 2048: 53, 4096: 106, 8192: 214, 16384: 430, 32768: 868}
HE_STANDARD_128 = {1024: 27, 2048: 54, 4096: 109, 8192: 218, 16384: 438, 32768: 881}
HE_STANDARD_128_QUANTUM = {1024: 25, 2048: 51, 4096: 101, 8192: 202, 16384: 411, 32768: 827}


@dataclass(frozen=True)
class Estimate:
    """Bits of one secret: the least of the claimed classical attacks, and uSVP by a quantum sieve (LaaMosPol14)."""

    classical: float
    quantum: float


# rows of docs/security-parameters.json, by dimension and bits of q; 1024 and its 26 bits have no room for a message beside noise
ESTIMATES = {
    (2048, 48): Estimate(142.8, 137.1),
    (2048, 50): Estimate(137.1, 131.2),
    (2048, 53): Estimate(128.8, 123.1),
    (4096, 106): Estimate(128.9, 122.7),
    (8192, 214): Estimate(128.2, 121.9),
    (16384, 430): Estimate(128.4, 121.8),
    (32768, 868): Estimate(128.0, 121.5),
}


@dataclass(frozen=True)
class SecurityReport:
    """One parameter set against all three tables. `ok` is hecompile's own verdict."""

    dimension: int
    q_bits: int
    security_bits: int
    ok: bool
    he_standard: bool
    he_standard_quantum: bool


def max_q_bits(dimension: int, security_bits: int = 128) -> int:
    """Most bits that the product of all primes may have; 0 where the dimension is not in the table.

    Raises:
        CompileError: for a security level without a table.
    """
    if security_bits not in LEVELS:
        raise CompileError(
            Diagnostic(
                f"there is no parameter table for {security_bits} bits of security",
                help=f"supported: {', '.join(map(str, LEVELS))}",
            )
        )
    return BITS_128.get(dimension, 0)


def report(dimension: int, q_bits: int, security_bits: int = 128) -> SecurityReport:
    """Where a parameter set stands."""
    return SecurityReport(
        dimension,
        q_bits,
        security_bits,
        ok=0 < q_bits <= max_q_bits(dimension, security_bits),
        he_standard=q_bits <= HE_STANDARD_128.get(dimension, 0),
        he_standard_quantum=q_bits <= HE_STANDARD_128_QUANTUM.get(dimension, 0),
    )


def estimate(dimension: int, q_bits: int) -> Estimate:
    """Bits of a ring with one secret, by the best row that it is no weaker than; zeros where there is none.

    A smaller q is at least as hard, and a larger dimension at the same q too: it only adds unknowns.
    """
    rows = [row for (n, most), row in ESTIMATES.items() if n <= dimension and q_bits <= most]
    return max(rows, key=lambda row: row.classical, default=Estimate(0.0, 0.0))


def security_bits(dimension: int, q_bits: int, secrets: int, quantum: bool = False) -> float:
    """Bits of so many secrets under the same polynomials `a`, any of which may be found: one secret's less log2 of their number."""
    found = estimate(dimension, q_bits)
    return (found.quantum if quantum else found.classical) - math.log2(secrets)
