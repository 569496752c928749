"""The search for the cheapest parameters and packing that provably carry a layer. `parameters` has the proofs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hecompile.backends.bfv.costs import client_work, reply_words, server_work, traffic
from hecompile.backends.bfv.packing import Layout, layouts, row_norms
from hecompile.backends.bfv.parameters import DIMENSIONS, MAX_WORD_BITS, Parameters, ProofKind, noise_bound, noise_budget
from hecompile.backends.bfv.provable import Carrier, best_drops, carriers, carriers_of
from hecompile.backends.bfv.rings import prime
from hecompile.ir.candidates import Cost
from hecompile.ir.linear import Geometry
from hecompile.machine import Machine, packing_objective
from hecompile.security.table import max_q_bits

__all__ = ["BELL", "LARGEST", "Choice", "Weights", "choose"]

LARGEST = (127.0, 127.0)  # mean and root mean square of |w|: weights that are all as large as possible
BELL = (22.4, 28.0)  # the same of bell-shaped int8 weights, whose largest is 4.5 standard deviations
LESS_TIME = 0.9  # how much faster a choice must be whose proof holds with probability 1 - 2^-40 only


@dataclass(frozen=True)
class Choice:
    """Parameters with a packing, and what was proved of them."""

    parameters: Parameters
    layout: Layout
    drop_b: int
    drop_a: int
    proof: ProofKind
    noise_bits: float  # log2 of the proved bound
    budget_bits: float  # log2 of q/2t - 1
    seconds: float  # predicted: `packing_objective`


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights on which parameters depend: int8 (rows, C', K) of the encrypted channels, or, without weights, assumed norms.

    The geometry is of the encrypted channels, too.
    """

    geometry: Geometry
    values: npt.NDArray[np.int8] | None
    message_norm: int = 0  # largest sum of |weights| of a row over all channels; 0: no channel is revealed
    tiles_per_picture: int = 1  # encrypted tiles, each of which is a picture of the geometry; 1 where pictures are whole
    assumed: tuple[float, float] = LARGEST  # without weights: the mean of |w|, and the root of the mean of w^2

    @cached_property
    def _rows(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """For every row, the sum of |weights| and the sum of their squares."""
        if self.values is not None:
            return row_norms(self.values)
        terms, (mean, root) = self.geometry.picture[0] * len(self.geometry.taps), self.assumed
        return np.full(self.geometry.rows, math.ceil(mean * terms)), np.full(self.geometry.rows, math.ceil(root**2 * terms))

    @property
    def row_norm(self) -> int:
        """The largest sum of |weights| of a row."""
        return int(self._rows[0].max(initial=0))

    @property
    def single_norms(self) -> tuple[int, float]:
        """W1 and W2 of answers with one output. They may be smaller where weights of a small picture hit one coefficient."""
        return self.row_norm, math.sqrt(int(self._rows[1].max(initial=0)))

    def answer_norms(self, layout: Layout) -> tuple[int, float]:
        """W1 and W2 of the answers of a packing."""
        if self.values is not None and layout.max_collisions > 1:
            return layout.answer_norms(self.values)
        first, second = layout.summed_norms(*self._rows)
        return first, second * math.sqrt(layout.max_collisions)  # (w + v)^2 <= 2 (w^2 + v^2)


@dataclass(frozen=True, eq=False)
class _Priced:
    """A packing with its predicted seconds. The server's are computed once per number of limbs."""

    layout: Layout
    machine: Machine
    requests: int = 1  # of a run that one seed serves

    @cached_property
    def _client_s(self) -> float:
        return client_work(self.layout).seconds(self.machine)

    @cached_property
    def _server_s(self) -> dict[int, float]:
        return {}

    def seconds(self, q_bits: int, drops: tuple[int, int]) -> float:
        """What the search minimises: `packing_objective` of one request, on average over the requests that a seed serves."""
        limbs, share = -(-q_bits // 8), 1 / self.requests
        if limbs not in self._server_s:
            self._server_s[limbs] = server_work(self.layout, q_bits, self.requests, share).seconds(self.machine)
        sent = traffic(self.layout, q_bits, drops, share)
        return packing_objective(Cost(self._server_s[limbs], self._client_s, sent.up_bytes, sent.down_bytes), self.machine)

    def floor(self, q_bits: int, t_bits: int) -> float:
        """A lower bound on `seconds` for every choice with this packing, this t and a q of q_bits bits.

        Dropped bits have to fit in the budget q/2t < 2^(q_bits - t_bits - 1). So words of `b` keep at least t_bits + 1 bits, and
        words of `a` log2(N) / 2 more, as N 2^(la - 1) and 10.3 sqrt(N 4^la / 6) are both above sqrt(N) 2^la.
        """
        kept_b, kept_a = t_bits + 1, t_bits + 1 + int(math.log2(self.layout.packing.dimension)) // 2
        return self.seconds(q_bits, (max(0, q_bits - kept_b), max(0, q_bits - kept_a)))

    def best_q(self, proof: Carrier, norms: tuple[int, float], most_s: float) -> Choice | None:
        """The choice of q that makes this packing cheapest; None if none carries it in less than `most_s`."""
        dimension, best = self.layout.packing.dimension, None
        for q_bits in range(proof.q_bits[0], proof.q_bits[1] + 1):
            if self.floor(q_bits, proof.t_bits) >= most_s:
                break  # more bits take longer
            budget = noise_budget(prime(q_bits, proof.t_bits), proof.t_bits)
            b, a = reply_words(self.layout)
            drops = best_drops(proof.kind, norms, dimension, budget, (b, a / self.requests))
            if drops is not None and (seconds := self.seconds(q_bits, drops)) < most_s:
                most_s = seconds
                noise = math.log2(max(noise_bound(proof.kind, norms, dimension, *drops), 1))
                parameters = Parameters(dimension, q_bits, proof.t_bits, proof.limit)
                best = Choice(parameters, self.layout, *drops, proof.kind, noise, math.log2(budget), seconds)
        return best


def choose(
    weights: Weights,
    elements: int,
    machine: Machine,
    fixed: Parameters | None = None,
    security_bits: int = 128,
    requests: int = 1,
) -> Choice | None:
    """The cheapest provable parameters and packing for `elements` pictures; with `fixed`, the cheapest packing for those.

    Costs are means over the `requests` of a run that a seed serves. The ring is the smallest in which a row of the picture fits:
    a larger one has no more room for noise. None if no parameters can be proved.
    """
    dimensions = [fixed.dimension] if fixed else DIMENSIONS
    most = min(MAX_WORD_BITS, *(max_q_bits(dimension, security_bits) for dimension in dimensions))
    if fixed:
        proofs = carriers_of(fixed, weights.single_norms)
    else:
        proofs = carriers(weights.single_norms, max(weights.row_norm, weights.message_norm), most)
    candidates = (layouts(weights.geometry, dimension, elements * weights.tiles_per_picture) for dimension in dimensions)
    priced = [_Priced(layout, machine, requests) for layout in next(filter(None, candidates), [])]
    best: Choice | None = None
    for proof in proofs:
        best = _cheapest(proof, weights, priced, math.inf if best is None else LESS_TIME * best.seconds) or best
    return best


def _cheapest(proof: Carrier, weights: Weights, priced: list[_Priced], most_s: float) -> Choice | None:
    """The cheapest packing under a proof; None if none takes less than `most_s`."""
    best: Choice | None = None
    floors = [(packing.floor(proof.q_bits[0], proof.t_bits), packing) for packing in priced]
    for least_s, packing in sorted(floors, key=lambda pair: pair[0]):
        if least_s >= most_s:
            break
        if choice := packing.best_q(proof, weights.answer_norms(packing.layout), most_s):
            best, most_s = choice, choice.seconds
    return best
