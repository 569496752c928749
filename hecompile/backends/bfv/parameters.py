"""The proofs behind a layer's parameters: the message fits below t, and the noise below q / 2t.

    W1, W2    1-norm and 2-norm of an answer's weights
    X         limit of the quantiser: its integers are in [-X, X]
    lb, la    low bits that are dropped from `b` and `a` of the answer
    e         errors, of the centred binomial distribution of 42 coins: |e| <= 21, variance 10.5
    q         a prime with q = 1 modulo t

    message         row_norm X <= t/2 - 1
    worst case      21 W1 + 1/2 + 2^(lb-1) + N 2^(la-1)                        <= q/2t - 1
    probabilistic   1/2 + 2^(lb-1) + 10.3 sqrt(10.5 W2^2 + N 4^la / 6)         <= q/2t - 1

The probabilistic bound holds for up to 2^35.5 coefficients of a run together with probability above 1 - 2^-40. It is used where the
worst case would need wider words or fewer steps of the quantiser. Encoding adds no noise, since q = 1 modulo t makes it exact; the
same holds for what the server adds. The 1/2 on the left is the rounding of decoding, the 1 on the right its error in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["DIMENSIONS", "LIMITS", "MAX_WORD_BITS", "T_BITS", "Parameters", "ProofKind", "noise_bound", "noise_budget"]

ProofKind = Literal["worst-case", "probabilistic"]
LIMITS = (127, 2047)  # smallest and largest limit X of a quantiser of activations
T_BITS = (16, 33)
MAX_WORD_BITS = 50  # products modulo q are exact in float64 up to here
DIMENSIONS = (2048, 4096, 8192, 16384, 32768)


@dataclass(frozen=True)
class Parameters:
    """The BFV parameters of one layer: N, bits of q and of t, and the limit X of its quantiser."""

    dimension: int
    q_bits: int
    t_bits: int
    limit: int

    @property
    def limbs(self) -> int:
        """Bytes of a ciphertext word, which the server multiplies one by one."""
        return -(-self.q_bits // 8)


def noise_budget(q: int, t_bits: int) -> float:
    """q/2t - 1, the right side of both bounds on the noise."""
    return q / 2.0 ** (t_bits + 1) - 1


def noise_bound(kind: ProofKind, norms: tuple[int, float], dimension: int, drop_b: int, drop_a: int) -> float:
    """The largest noise of an answer: the left side of the bound of this kind in the module's docstring. `norms` are W1 and W2."""
    first, second = norms
    rounding_b = 0.5 + (2.0 ** (drop_b - 1) if drop_b else 0.0)
    if kind == "worst-case":
        return 21.0 * first + rounding_b + (dimension * 2.0 ** (drop_a - 1) if drop_a else 0.0)
    rounding_a = dimension * 4.0**drop_a / 6 if drop_a else 0.0
    return rounding_b + 10.3 * math.sqrt(10.5 * second**2 + rounding_a)
