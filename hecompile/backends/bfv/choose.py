"""The search for the cheapest parameters and packing that are proved to carry a layer (see `parameters` for the proofs)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hecompile.backends.bfv.costs import layer_cost
from hecompile.backends.bfv.packing import Layout, layouts
from hecompile.backends.bfv.parameters import DIMENSIONS, LIMITS, MAX_WORD_BITS, T_BITS, Parameters, ProofKind, noise_bound
from hecompile.ir.linear import Geometry
from hecompile.machine import Machine, seconds_of
from hecompile.security.table import max_q_bits

__all__ = ["Choice", "Weights", "choose"]

MIN_WORD_BITS = 30


@dataclass(frozen=True)
class Choice:
    """Parameters with a packing and what was proved of them."""

    parameters: Parameters
    layout: Layout
    drop_b: int
    drop_a: int
    proof: ProofKind
    noise_bits: float  # log2 of the proved bound
    budget_bits: float  # log2 of q/2t - 1
    seconds: float  # predicted, for choosing


def _drops(kind: ProofKind, norms: tuple[int, float], layout: Layout, budget: float) -> tuple[int, int] | None:
    """The low bits of `b` and `a` whose loss saves most bytes within the budget; None if it does not even hold without."""
    dimension = layout.packing.dimension

    def fits(drop_b: int, drop_a: int) -> bool:
        return noise_bound(kind, norms, dimension, drop_b, drop_a) <= budget

    if not fits(0, 0):
        return None
    most_a = next(drop for drop in range(MAX_WORD_BITS, -1, -1) if fits(0, drop))
    pairs = [
        (next(drop for drop in range(MAX_WORD_BITS, -1, -1) if fits(drop, drop_a)), drop_a)
        for drop_a in {most_a, max(most_a - 1, 0)}  # one bit less of `a` frees half the budget for `b`
    ]
    return max(pairs, key=lambda pair: pair[0] * len(layout.reads) + pair[1] * dimension)


def message_parameters(row_norm: int) -> tuple[int, int] | None:
    """The smallest t (bits) that leaves the quantiser all its steps, and the limit; None if even the largest t is too small."""
    for t_bits in range(T_BITS[0], T_BITS[1] + 1):
        limit = (2 ** (t_bits - 1) - 1) // max(row_norm, 1)
        if limit >= LIMITS[1] or (t_bits == T_BITS[1] and limit >= LIMITS[0]):
            return t_bits, min(limit, LIMITS[1])
    return None


def _seconds(layout: Layout, q_bits: int, drops: tuple[int, int], machine: Machine) -> float:
    """Predicted time of one request."""
    return seconds_of(layer_cost(layout, q_bits, drops, machine), machine)


def _budget(q_bits: int, t_bits: int) -> float:
    """q/2t - 1 for the prime that SEAL picks, which is less than 2^-8 of q below 2^q_bits."""
    return 2.0 ** (q_bits - 1 - t_bits) * (1 - 2.0**-8) - 1


def _floor(layout: Layout, q_bits: int, t_bits: int, machine: Machine) -> float:
    """No choice with this packing, this t and a q of at least `q_bits` takes less.

    A dropped bit has to fit in q/2t < 2^(q - t - 1): words of `b` keep t + 1 bits at least, those of `a` log2(N) / 2 more, as
    N 2^(la - 1) and 10.1 sqrt(N 4^la / 6) are both above sqrt(N) 2^la. All else that there is to do grows with q.
    """
    kept_b, kept_a = t_bits + 1, t_bits + 1 + int(math.log2(layout.packing.dimension)) // 2
    return _seconds(layout, q_bits, (max(0, q_bits - kept_b), max(0, q_bits - kept_a)), machine)


def _best_q(
    kind: ProofKind,
    layout: Layout,
    norms: tuple[int, float],
    message: tuple[int, int],
    q_range: range,
    machine: Machine,
    most_s: float = math.inf,
) -> Choice | None:
    """The q that makes this packing cheapest, None if none carries it in less than `most_s`."""
    t_bits, limit = message
    best: Choice | None = None
    for q_bits in q_range:
        drops = _drops(kind, norms, layout, _budget(q_bits, t_bits))
        if drops is None:
            continue
        if _floor(layout, q_bits, t_bits, machine) >= most_s:
            break
        parameters = Parameters(layout.packing.dimension, q_bits, t_bits, limit)
        seconds = _seconds(layout, q_bits, drops, machine)
        if seconds < most_s:
            most_s = seconds
            bound = noise_bound(kind, norms, layout.packing.dimension, *drops)
            budget = math.log2(_budget(q_bits, t_bits))
            best = Choice(parameters, layout, *drops, kind, math.log2(max(bound, 1)), budget, seconds)
    return best


@dataclass(frozen=True, eq=False)
class Weights:
    """What parameters depend on: the norms of int8 weights (rows, C', K), or without weights the largest they can have.

    Geometry and values are of the encrypted channels. With `released`, the sum over the other ones is added to `b`, encoded: it
    brings a rounding of 1/2, which counts as one more upload. (What tiles release is not added to `b`: it travels beside it.)
    """

    geometry: Geometry
    values: npt.NDArray[np.int8] | None
    message_norm: int = 0  # the largest sum of |weights| of a row over all channels; 0: over the encrypted ones
    released: bool = False
    slots: int = 1  # pictures of the geometry per element: encrypted tiles

    @property
    def row_norm(self) -> int:
        """The largest sum of |weights| of a row."""
        if self.values is None:
            return 127 * self.geometry.picture[0] * len(self.geometry.taps)
        return int(np.abs(self.values.astype(np.int64)).sum(axis=(1, 2)).max(initial=0))

    def answer_norms(self, layout: Layout) -> tuple[int, float]:
        """W1 and W2 for a packing."""
        if self.values is not None:
            first, second = layout.answer_norms(self.values)
        else:
            first = self.row_norm * layout.packing.p_out
            second = math.sqrt(127.0 * first)
        return first + self.released, second


def choose(
    weights: Weights,
    elements: int,
    machine: Machine,
    fixed: Parameters | None = None,
    security_bits: int = 128,
) -> Choice | None:
    """The cheapest provable parameters and packing for `elements` pictures; with `fixed`, the cheapest packing for those.

    None if no parameters can be proved.
    """
    geometry, row_norm = weights.geometry, weights.row_norm
    message = (fixed.t_bits, fixed.limit) if fixed else message_parameters(max(row_norm, weights.message_norm))
    if message is None:
        return None
    best: Choice | None = None
    for dimension in [fixed.dimension] if fixed else DIMENSIONS:
        most = min(MAX_WORD_BITS, max_q_bits(dimension, security_bits))
        q_range = range(fixed.q_bits, fixed.q_bits + 1) if fixed else range(MIN_WORD_BITS, most + 1)
        kind: ProofKind = "worst-case"
        if noise_bound(kind, (row_norm + weights.released, 0.0), dimension, 0, 0) > _budget(q_range[-1], message[0]):
            kind = "probabilistic"  # even one output per answer is too much for the worst case
        floor = [
            (_floor(layout, q_range[0], message[0], machine), layout)
            for layout in layouts(geometry, dimension, elements * weights.slots)
        ]
        for seconds, layout in sorted(floor, key=lambda pair: pair[0]):
            if best is not None and seconds >= best.seconds:
                break
            most_s = math.inf if best is None else best.seconds
            best = _best_q(kind, layout, weights.answer_norms(layout), message, q_range, machine, most_s) or best
    return best
