"""Seeds that serve several requests of a run: how many requests a seed may serve, and which layers get such seeds.

The server computes the `a` half of such a layer once in a run. Later replies leave it out, and the client keeps the `a` of the
first reply. Secrets and errors are fresh in every request. For the security bits, the blocks of all requests of a run count as
blocks under one `a` (docs/cryptography.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hecompile.backends.bfv.choose import Choice, Weights, choose
from hecompile.backends.bfv.costs import Revealed, kept_bytes, layer_cost
from hecompile.backends.bfv.forms import product_form
from hecompile.backends.bfv.memory import ordered_bytes
from hecompile.backends.bfv.packing import Layout
from hecompile.backends.bfv.parameters import Parameters
from hecompile.backends.bfv.rings import BLOCKS_PER_SEED, MODE_BYTES, REUSED_Q_BITS
from hecompile.backends.bfv.stages import PackedLinearOp, encrypted_weights
from hecompile.errors import InternalError
from hecompile.ir.candidates import Cost, Kept, kept_within
from hecompile.ir.linear_ops import LinearOp
from hecompile.ir.passes import RegionPass
from hecompile.ir.regions import AnyCall, CallRegion, Program
from hecompile.machine import Machine, objective
from hecompile.security.table import estimate

__all__ = ["ShareSeeds", "kept_cost", "most_requests", "shared_cost"]


def most_requests(parameters: Parameters, calls: int, security_bits: int) -> int:
    """How many of the `calls` requests of a run one seed may serve, for any number of blocks; 1 if not even a second one."""
    if parameters.q_bits > REUSED_Q_BITS:
        return 1
    room = estimate(parameters.dimension, parameters.q_bits).classical - security_bits
    return max(1, min(calls, int(2.0**room / BLOCKS_PER_SEED)))


def kept_cost(choice: Choice, machine: Machine, requests: int, revealed: Revealed | None = None) -> Kept:
    """The cost of the requests of a run under one seed, with a choice that was made for this many requests."""
    return shared_cost(choice.layout, choice.parameters.q_bits, (choice.drop_b, choice.drop_a), machine, requests, revealed)


def shared_cost(
    layout: Layout, q_bits: int, drops: tuple[int, int], machine: Machine, requests: int, revealed: Revealed | None
) -> Kept:
    """The cost of requests for a layer that share a seed."""
    first, later = (layer_cost(layout, q_bits, drops, machine, revealed, requests, share) for share in (1.0, 0.0))
    ordered = ordered_bytes(layout, product_form(layout, q_bits, requests).name)
    return Kept(first, later, kept_bytes(layout, q_bits, drops), requests, MODE_BYTES, ordered)


@dataclass(frozen=True, eq=False)
class _Offer:
    """A linear layer whose seeds serve a run, and what that saves."""

    linear_op: PackedLinearOp
    gain_s: float  # saved per call at batch size 1
    client_bytes: int  # that the client keeps, at the batch size where they are most


@dataclass(frozen=True)
class ShareSeeds(RegionPass):
    """Let seeds serve a run where that spares most for what the client keeps meanwhile.

    conv 1280 -> 1280, 8x8  ->  the same, its seeds serve 25 requests, 1.6 MiB at the client
    """

    client_bytes: int
    calls: int
    security_bits: int
    machine: Machine

    def on(self, program: Program) -> Callable[[AnyCall], AnyCall]:
        per_run = {step.region for step in program.plan.steps if step.per_run}
        linear_ops = [
            linear_op
            for name, region in program.calls.items()
            if region.backend == self.backend and name not in per_run and isinstance(region, CallRegion)
            for linear_op in region.linear_ops
            if isinstance(linear_op, PackedLinearOp)
        ]
        done = not self.client_bytes or any(linear_op.requests > 1 for linear_op in linear_ops)
        offers = [] if done else [self._offers(linear_op) for linear_op in linear_ops]
        kept = kept_within([[(offer.gain_s, offer.client_bytes) for offer in own] for own in offers], self.client_bytes)
        shared: dict[int, LinearOp] = {id(linear_ops[place]): offers[place][number].linear_op for place, number in kept.items()}

        def change(region: AnyCall) -> AnyCall:
            if not isinstance(region, CallRegion) or all(id(linear_op) not in shared for linear_op in region.linear_ops):
                return region
            return region.with_linear_ops(lambda linear_op: shared.get(id(linear_op), linear_op))

        return change

    def _offers(self, linear_op: PackedLinearOp) -> list[_Offer]:
        """The layer with shared seeds, packed as it is and packed anew. Empty if a seed may not serve a second request."""
        parameters = linear_op.parameterized.parameters
        requests = most_requests(parameters, self.calls, self.security_bits)
        if requests == 1:
            return []
        weights, repacked = encrypted_weights(linear_op.parameterized.quantized), []
        for batch in range(1, len(linear_op.choices) + 1):
            repacked.append(_packed(weights, batch * linear_op.images_per_sample, self.machine, parameters, requests))
        alone = linear_op.choices[0]
        before = layer_cost(alone.layout, parameters.q_bits, (alone.drop_b, alone.drop_a), self.machine)
        offers = []
        for choices in (linear_op.choices, tuple(repacked)):
            costs = [kept_cost(choice, self.machine, requests) for choice in choices]
            gain_s = self._seconds(before) - costs[0].mean_of(self._seconds)
            shared = replace(linear_op, choices=choices, requests=requests)
            offers.append(_Offer(shared, gain_s, max(cost.client_bytes for cost in costs)))
        return offers

    def _seconds(self, cost: Cost) -> float:
        return objective(cost, self.machine)

    def summary(self, before: Program, after: Program) -> str:
        shared = [linear_op for linear_op in after.linear_ops if isinstance(linear_op, PackedLinearOp) and linear_op.requests > 1]
        sizes = [kept_cost(linear_op.choices[0], self.machine, linear_op.requests).client_bytes for linear_op in shared]
        return f"{len(shared)} layers, {sum(sizes) / 2**20:.2f} MiB at the client at batch 1" if shared else "nothing to do"


def _packed(weights: Weights, elements: int, machine: Machine, parameters: Parameters, requests: int) -> Choice:
    choice = choose(weights, elements, machine, parameters, requests=requests)
    if choice is None:
        raise InternalError(f"no packing for {elements} pictures under {parameters}")
    return choice
