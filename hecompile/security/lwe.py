"""The least noise that hides an LWE secret at 128 bits of security: binary secrets, modulus 2^64.

The line log2(sigma / q) = slope n + bias is the one of Concrete 2.10 for 128 bits, fitted by its authors to the lattice estimator
(Albrecht, Player, Scott 2015); it is kept here because a specification is judged before Concrete sees it. What its points are worth
by today's estimator is in `docs/security-parameters.md`.
"""

from __future__ import annotations

import math

from hecompile.security.table import max_q_bits

__all__ = ["LEAST_DIMENSION", "least_dimension", "least_noise_bits"]

SLOPE, BIAS = -0.025696778711484593, 2.675931372549016
LEAST_DIMENSION = 450  # the line was fitted from here on
LEAST_NOISE_BITS = -62.0  # below two steps of the modulus rounding would hide nothing
TOLERANCE = 1e-6  # the compiler rounds variances to doubles


def least_noise_bits(dimension: int, security_bits: int = 128) -> float:
    """log2 of the least standard deviation relative to the modulus; infinite where nothing is known.

    Raises:
        CompileError: for a security level without a table.
    """
    max_q_bits(2048, security_bits)
    if dimension < LEAST_DIMENSION:
        return float("inf")
    return max(SLOPE * dimension + BIAS, LEAST_NOISE_BITS) - TOLERANCE


def least_dimension(noise_bits: float) -> int:
    """The least dimension whose secret noise of 2^noise_bits of the modulus hides, at 128 bits of security."""
    return max(LEAST_DIMENSION, math.ceil((noise_bits - BIAS) / SLOPE))
