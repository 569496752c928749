"""The search for the smallest parameters that carry a sampler's step. `program` has the bounds."""

from __future__ import annotations

from hecompile.backends.bfv.parameters import MAX_WORD_BITS, Parameters, noise_bound, noise_budget
from hecompile.backends.bfv.rings import prime
from hecompile.backends.sampler_step.program import Drops
from hecompile.errors import CompileError
from hecompile.security.table import max_q_bits

__all__ = ["WEIGHT_BITS", "choose_parameters"]

WEIGHT_BITS = 12  # W = 2^12: f and g are rounded to 1.5e-4 of |f| + |g|
LIMIT = 2**14 - 1  # X: x and e are rounded to 2^-15 of their largest entry


def choose_parameters(entries: int, security_bits: int = 128) -> tuple[Parameters, int, Drops]:
    """The smallest t and q that the bounds allow, the prime, and the dropped bits that save most. All words are whole bytes.

    The ring has dimension 4096 if there are enough `entries` to fill it, since it costs a fifth less per coefficient than 2048.

    Raises:
        CompileError: for a security level that has no table.
    """
    weight, dimension = 2**WEIGHT_BITS, 4096 if entries >= 4096 else 2048
    t_bits = (weight * LIMIT + 1).bit_length() + 1
    for q_bits in range(40, min(MAX_WORD_BITS, max_q_bits(dimension, security_bits)) + 1, 8):
        q = prime(q_bits, t_bits)
        room = noise_budget(q, t_bits)
        pairs = [
            Drops(b, a)
            for a in range(0, q_bits, 8)
            for b in range(0, q_bits, 8)
            if noise_bound("worst-case", (weight, 0.0), dimension, b, a) <= room
        ]
        if pairs:
            return Parameters(dimension, q_bits, t_bits, LIMIT), q, max(pairs, key=lambda drops: drops.a + drops.b)
    raise CompileError("no parameters for the sampler's step")
