"""The primes of a ring, as SEAL picks them: the same every time."""

from __future__ import annotations

from functools import lru_cache

from hecompile.backends.ckks.ring import Ring
from hecompile.errors import ProtocolError

__all__ = ["primes"]


@lru_cache(maxsize=64)
def primes(ring: Ring) -> tuple[int, ...]:
    """q_0 ... q_depth, then the special prime. Raises `ProtocolError` if there are not as many of these bits."""
    from hecompile.backends.ckks.library import seal

    try:
        found = seal.CoeffModulus.Create(ring.dimension, [*ring.bits, ring.special_bits])
    except (ValueError, RuntimeError, IndexError) as error:
        raise ProtocolError(f"SEAL finds no primes for {ring}: {error}") from error
    return tuple(int(prime.value()) for prime in found)
