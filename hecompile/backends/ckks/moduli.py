"""The primes of a ring, as SEAL picks them: the same every time."""

from __future__ import annotations

from functools import lru_cache

from hecompile.backends.ckks.ring import Ring

__all__ = ["primes"]


@lru_cache(maxsize=64)
def primes(ring: Ring) -> tuple[int, ...]:
    """q_0 ... q_depth, then the special prime."""
    import tenseal.sealapi as seal

    found = seal.CoeffModulus.Create(ring.dimension, [*ring.bits, ring.special_bits])
    return tuple(int(prime.value()) for prime in found)
