"""The least noise with which an LWE problem has 128 bits of security, for binary secrets and the modulus 2^64.

The line log2(sigma / q) = slope n + bias is the one of Concrete 2.10 for 128 bits. Its authors fitted it to the lattice estimator
(Albrecht, Player, Scott 2015). It is repeated here because a circuit's specification is checked before Concrete reads it.
`docs/security-parameters.md` has the security of its points by today's estimator.
"""

from __future__ import annotations

import math

from hecompile.security.table import max_q_bits

__all__ = ["LEAST_DIMENSION", "least_dimension", "least_noise_bits"]

SLOPE, BIAS = -0.025696778711484593, 2.675931372549016
LEAST_DIMENSION = 450  # the line was fitted to this dimension and larger ones
LEAST_NOISE_BITS = -62.0  # noise below four steps of the modulus 2^64 would vanish in rounding
TOLERANCE = 1e-6  # Concrete's compiler rounds variances to doubles


def least_noise_bits(dimension: int, security_bits: int = 128) -> float:
    """log2 of the noise's least standard deviation relative to the modulus; infinite for dimensions below the line's.

    Raises:
        CompileError: for a security level without a table.
    """
    max_q_bits(2048, security_bits)
    if dimension < LEAST_DIMENSION:
        return float("inf")
    return max(SLOPE * dimension + BIAS, LEAST_NOISE_BITS) - TOLERANCE


def least_dimension(noise_bits: float) -> int:
    """Return the least dimension with 128 bits of security, if the noise has a standard deviation of 2^noise_bits times the
    modulus."""
    return max(LEAST_DIMENSION, math.ceil((noise_bits - BIAS) / SLOPE))
