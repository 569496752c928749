"""Chooses the smallest ring with the levels and slots that a region needs, within the security table."""

from __future__ import annotations

from hecompile.backends.ckks.ring import DIMENSIONS, CkksRing
from hecompile.errors import CompileError, Diagnostic
from hecompile.security.table import max_q_bits

__all__ = ["HEADROOM", "ring_for"]

HEADROOM = 8  # bits that q_0 has above the scale, for values up to 2^7
SCALE_BITS = (21, 32)  # the least, for errors of about 2^-10, and the most that is of use; 32 bits are packed fast


def ring_for(depth: int, slots: int, where: str, security_bits: int = 128, least_dimension: int = 0) -> CkksRing:
    """Return the smallest ring that has `depth` levels, `slots` slots and a dimension of `least_dimension` or more.

    Raises:
        CompileError: naming `where`, if no ring of `security_bits` has them.
    """
    for dimension in DIMENSIONS:
        scale_bits = min(SCALE_BITS[1], (max_q_bits(dimension, security_bits) - 2 * HEADROOM) // (depth + 2))
        if scale_bits >= SCALE_BITS[0] and dimension // 2 >= slots and dimension >= least_dimension:
            return CkksRing(dimension, (scale_bits + HEADROOM, *(scale_bits,) * depth), scale_bits + HEADROOM)
    raise CompileError(
        Diagnostic(
            f"{where} needs {depth} levels and {slots} slots: no ring up to dimension {DIMENSIONS[-1]} has them at "
            f"{security_bits} bits of security",
            help="lower the degree of its polynomials, let the client compute one of its activations, or use --backend bfv",
        )
    )
