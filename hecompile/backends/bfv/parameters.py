"""The proofs behind a layer's parameters: the message fits in t, the noise in q / 2t.

With W1 and W2 the 1- and 2-norm of an answer's weights, X the quantiser's limit, errors of the centred binomial distribution of 42
coins (|e| <= 21, variance 10.5), a prime q = 1 modulo t, and lb, la the low bits dropped from `b` and `a` of the answer:

    message         row_norm X <= t/2 - 1
    worst case      21 W1 + 1/2 + 2^(lb-1) + N 2^(la-1)                        <= q/2t - 1
    probabilistic   1/2 + 2^(lb-1) + 10.3 sqrt(10.5 W2^2 + N 4^la / 6)         <= q/2t - 1

The second noise bound holds for all of up to 2^35.5 coefficients of a run together with probability above 1 - 2^-40. It is used
where the first would take a wider word, or steps of the quantiser. Encoding a message, also what the server adds, costs nothing:
q = 1 modulo t makes it exact; the 1/2 is what decoding rounds, and the 1 on the right what it may lose in double precision.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["DIMENSIONS", "LIMITS", "MAX_WORD_BITS", "T_BITS", "Parameters", "ProofKind", "noise_bound", "noise_budget"]

ProofKind = Literal["worst-case", "probabilistic"]
LIMITS = (127, 2047)  # least and most steps of the activation quantiser on either side of zero
T_BITS = (16, 33)
MAX_WORD_BITS = 50  # products modulo q are exact in doubles below
DIMENSIONS = (2048, 4096, 8192, 16384, 32768)


@dataclass(frozen=True)
class Parameters:
    """BFV parameters of one layer and its quantiser's limit X."""

    dimension: int
    q_bits: int
    t_bits: int
    limit: int

    @property
    def limbs(self) -> int:
        """Bytes of a word that the server multiplies."""
        return -(-self.q_bits // 8)


def noise_budget(q: int, t_bits: int) -> float:
    """q/2t - 1, the right side of both inequalities."""
    return q / 2.0 ** (t_bits + 1) - 1


def noise_bound(kind: ProofKind, norms: tuple[int, float], dimension: int, drop_b: int, drop_a: int) -> float:
    """The left side of the chosen inequality; `norms` are W1 and W2."""
    first, second = norms
    rounding_b = 0.5 + (2.0 ** (drop_b - 1) if drop_b else 0.0)
    if kind == "worst-case":
        return 21.0 * first + rounding_b + (dimension * 2.0 ** (drop_a - 1) if drop_a else 0.0)
    rounding_a = dimension * 4.0**drop_a / 6 if drop_a else 0.0
    return rounding_b + 10.3 * math.sqrt(10.5 * second**2 + rounding_a)
