"""The security table: how many bits the modulus q may have, for each ring dimension, at 128 bits of security.

hecompile enforces `BITS_128` when it compiles and again when it loads. It has the classical limits, for ternary secrets and SEAL's
error distribution, of the Security Guidelines for Implementing Homomorphic Encryption (Bossuat et al., ePrint 2024/463). It is
stricter than the table of the Homomorphic Encryption Standard (Albrecht et al. 2018, ePrint 2019/939, table 1) that SEAL enforces,
which rests on older cost models. The standard's classical and quantum rows are here for reports. `docs/security-parameters.md` has
the security of every limit by attack and cost model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hecompile.errors import CompileError, Diagnostic

__all__ = [
    "BITS_128", "ESTIMATES", "HE_STANDARD_128", "HE_STANDARD_128_QUANTUM", "LEVELS", "Estimate", "SecurityReport", "estimate",
    "max_q_bits", "report", "security_bits",
]  # fmt: skip

LEVELS = (128,)  # the bits of security for which there is a table
BITS_128 = {1024: 26, 2048: 53, 4096: 106, 8192: 214, 16384: 430, 32768: 868}
HE_STANDARD_128 = {1024: 27, 2048: 54, 4096: 109, 8192: 218, 16384: 438, 32768: 881}
HE_STANDARD_128_QUANTUM = {1024: 25, 2048: 51, 4096: 101, 8192: 202, 16384: 411, 32768: 827}


@dataclass(frozen=True)
class Estimate:
    """Bits of security of one secret: by the best known classical attack, and by uSVP with a quantum sieve (LaaMosPol14)."""

    classical: float
    quantum: float


# Rows of docs/security-parameters.json, by dimension and bits of q. Dimension 1024 with 26 bits has no room for message and noise.
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
    """Whether a parameter set is within hecompile's own table (`ok`), and within the two rows of the standard."""

    dimension: int
    q_bits: int
    security_bits: int
    ok: bool
    he_standard: bool
    he_standard_quantum: bool


def max_q_bits(dimension: int, security_bits: int = 128) -> int:
    """Return the most bits that the modulus, the product of all its primes, may have; 0 for a dimension that is not in the table.

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
    """Compare a parameter set with the three tables."""
    return SecurityReport(
        dimension,
        q_bits,
        security_bits,
        ok=0 < q_bits <= max_q_bits(dimension, security_bits),
        he_standard=q_bits <= HE_STANDARD_128.get(dimension, 0),
        he_standard_quantum=q_bits <= HE_STANDARD_128_QUANTUM.get(dimension, 0),
    )


def estimate(dimension: int, q_bits: int) -> Estimate:
    """Return the security of a ring with one secret: the best estimate of a row with no larger dimension and no smaller q, or
    zeros if the table has no such row.

    A smaller q is at least as hard to attack, and so is a larger dimension with the same q, which adds unknowns.
    """
    rows = [row for (n, most), row in ESTIMATES.items() if n <= dimension and q_bits <= most]
    return max(rows, key=lambda row: row.classical, default=Estimate(0.0, 0.0))


def security_bits(dimension: int, q_bits: int, secrets: int, quantum: bool = False) -> float:
    """Return the security against finding any of several secrets that share the polynomials `a`: one secret's bits minus
    log2(secrets)."""
    single = estimate(dimension, q_bits)
    return (single.quantum if quantum else single.classical) - math.log2(secrets)
