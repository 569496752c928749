"""What the norms of a layer's weights prove: t, the quantiser's limit, the smallest q, and the low bits that answers may drop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from hecompile.backends.bfv.parameters import LIMITS, MAX_WORD_BITS, T_BITS, Parameters, ProofKind, noise_bound, noise_budget
from hecompile.backends.bfv.rings import Q_BITS, ROOM_BITS, prime

__all__ = ["ENOUGH_LIMIT", "WHOLE_Q_BITS", "Carrier", "best_drops", "carriers", "carriers_of"]

WHOLE_Q_BITS = 48  # a word is then six whole bytes
ENOUGH_LIMIT = 512  # limit of the quantiser that needs no wider q: together with int8 weights it loses about a decibel

Norms = tuple[int, float]  # W1 and W2


@dataclass(frozen=True)
class Carrier:
    """Proved parameters of a layer whose answers have one output. q may have from `q_bits[0]` to `q_bits[1]` bits."""

    kind: ProofKind
    t_bits: int
    limit: int
    q_bits: tuple[int, int]


def carriers(norms: Norms, message_norm: int, most_q_bits: int = MAX_WORD_BITS) -> list[Carrier]:
    """The proofs with the largest limit of the quantiser, the worst case first if it is among them; empty if none holds.

    A q of at most 48 bits is preferred if the quantiser keeps 512 steps, or if a wider q would not give it more.

    Args:
        norms: W1 and W2 of answers with one output.
        message_norm: the largest sum of |weights| of a row over all channels.
    """
    small = _widest(norms, message_norm, min(WHOLE_Q_BITS, most_q_bits))
    if small and small[0].limit >= ENOUGH_LIMIT:
        return small
    wide = _widest(norms, message_norm, most_q_bits)
    return wide if wide and (not small or wide[0].limit > small[0].limit) else small


def carriers_of(parameters: Parameters, norms: Norms) -> list[Carrier]:
    """The proofs that hold for given parameters and answers with one output; empty if none holds."""
    return _proved(norms, parameters.t_bits, parameters.limit, (parameters.q_bits, parameters.q_bits))


def _widest(norms: Norms, message_norm: int, most_q_bits: int) -> list[Carrier]:
    """The proofs with the largest limit of the quantiser, for a q of at most this many bits."""
    candidates = (_proved(norms, t_bits, limit, (Q_BITS[0], most_q_bits)) for t_bits, limit in _messages(message_norm))
    return next(filter(None, candidates), [])


def _proved(norms: Norms, t_bits: int, limit: int, q_range: tuple[int, int]) -> list[Carrier]:
    kinds: tuple[ProofKind, ...] = ("worst-case", "probabilistic")
    least = [(kind, _least_q_bits(kind, norms, t_bits, q_range)) for kind in kinds]
    return [Carrier(kind, t_bits, limit, (q_bits, q_range[1])) for kind, q_bits in least if q_bits is not None]


def _messages(message_norm: int) -> list[tuple[int, int]]:
    """Pairs of t_bits and the limit that it leaves the quantiser, from the t that leaves it whole down to the smallest t."""
    moduli = []
    for t_bits in range(T_BITS[0], T_BITS[1] + 1):
        limit = (2 ** (t_bits - 1) - 1) // max(message_norm, 1)
        if limit >= LIMITS[0]:
            moduli.append((t_bits, min(limit, LIMITS[1])))
        if limit >= LIMITS[1]:
            break
    return moduli[::-1]


def _least_q_bits(kind: ProofKind, norms: Norms, t_bits: int, q_range: tuple[int, int]) -> int | None:
    """The smallest q_bits whose budget holds the noise of an answer that drops nothing."""
    bound = noise_bound(kind, norms, 0, 0, 0)
    sizes = range(max(q_range[0], t_bits + ROOM_BITS), q_range[1] + 1)
    return next((q_bits for q_bits in sizes if bound <= noise_budget(prime(q_bits, t_bits), t_bits)), None)


def best_drops(kind: ProofKind, norms: Norms, dimension: int, budget: float, words: Norms) -> tuple[int, int] | None:
    """How many low bits of `b` and `a` to drop to save most bits of a reply within the budget; None if nothing fits it.

    Args:
        words: how many words of `b` and of `a` a reply has.
    """

    def most(fits: Callable[[int], bool], room: float) -> int:
        """The largest drop l that `fits`, searched around 2^(l-1) = `room`."""
        return next(drop for drop in range(max(0, math.frexp(max(room, 0.0))[1]) + 1, -1, -1) if fits(drop) or drop == 0)

    free = budget - noise_bound(kind, norms, dimension, 0, 0)
    if free < 0:
        return None
    if kind == "worst-case":
        room_a = free / dimension
    else:
        room_a = math.sqrt(max(0.0, ((budget - 0.5) / 10.3) ** 2 - 10.5 * norms[1] ** 2) * 6 / dimension) / 2
    most_a = most(lambda drop: noise_bound(kind, norms, dimension, 0, drop) <= budget, room_a)
    pairs = []
    for drop_a in {most_a, max(most_a - 1, 0)}:  # one bit less of `a` frees half the budget for `b`
        room_b = budget - noise_bound(kind, norms, dimension, 0, drop_a)
        pairs.append((most(lambda drop, a=drop_a: noise_bound(kind, norms, dimension, drop, a) <= budget, room_b), drop_a))  # type: ignore[misc]
    return max(pairs, key=lambda pair: pair[0] * words[0] + pair[1] * words[1])
