"""Seeds that serve the requests of a run: how many they may serve, and which layers have such seeds.

The server computes the `a` half of such a layer once a run, and later replies leave it out. The client keeps `a` of the first
reply. Secrets and errors are fresh for every request: a request is one more block under the same `a`, and all blocks of a run count
in the security bits (docs/cryptography.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hecompile.backends.bfv.choose import Choice, Weights, choose
from hecompile.backends.bfv.costs import Released, kept_bytes, layer_cost
from hecompile.backends.bfv.forms import product_form
from hecompile.backends.bfv.memory import ordered_bytes
from hecompile.backends.bfv.packing import Layout
from hecompile.backends.bfv.parameters import Parameters
from hecompile.backends.bfv.rings import BLOCKS_PER_SEED, MODE_BYTES, REUSED_Q_BITS
from hecompile.backends.bfv.stages import PackedProduct, encrypted_weights
from hecompile.errors import InternalError
from hecompile.ir.candidates import Cost, Kept, kept_within
from hecompile.ir.passes import RegionPass
from hecompile.ir.products import AnyProduct
from hecompile.ir.regions import AnyCall, CallRegion, Program
from hecompile.machine import Machine, objective
from hecompile.security.table import estimate

__all__ = ["ShareSeeds", "kept_cost", "most_requests", "shared_cost"]


def most_requests(parameters: Parameters, calls: int, security_bits: int) -> int:
    """How many of `calls` requests of a run one seed may serve, however many blocks they have: 1 where it may serve no second."""
    if parameters.q_bits > REUSED_Q_BITS:
        return 1
    room = estimate(parameters.dimension, parameters.q_bits).classical - security_bits
    return max(1, min(calls, int(2.0**room / BLOCKS_PER_SEED)))


def kept_cost(choice: Choice, machine: Machine, requests: int, released: Released | None = None) -> Kept:
    """What requests of a run cost under one seed, `choice` having been made for so many."""
    return shared_cost(choice.layout, choice.parameters.q_bits, (choice.drop_b, choice.drop_a), machine, requests, released)


def shared_cost(
    layout: Layout, q_bits: int, drops: tuple[int, int], machine: Machine, requests: int, released: Released | None
) -> Kept:
    """What requests for a layer cost that share seeds."""
    first, later = (layer_cost(layout, q_bits, drops, machine, released, requests, share) for share in (1.0, 0.0))
    ordered = ordered_bytes(layout, product_form(layout, q_bits, requests).name)
    return Kept(first, later, kept_bytes(layout, q_bits, drops), requests, MODE_BYTES, ordered)


@dataclass(frozen=True, eq=False)
class _Offer:
    """A product whose seeds serve a run, and what that spares."""

    product: PackedProduct
    gain_s: float  # a call, at batch one
    client_bytes: int  # at the batch where most are kept


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
        once = {step.region for step in program.plan.steps if step.once}
        products = [
            product
            for name, region in program.calls.items()
            if region.backend == self.backend and name not in once and isinstance(region, CallRegion)
            for product in region.products
            if isinstance(product, PackedProduct)
        ]
        done = not self.client_bytes or any(product.requests > 1 for product in products)
        offers = [] if done else [self._offers(product) for product in products]
        kept = kept_within([[(each.gain_s, each.client_bytes) for each in own] for own in offers], self.client_bytes)
        shared: dict[int, AnyProduct] = {id(products[place]): offers[place][number].product for place, number in kept.items()}

        def change(region: AnyCall) -> AnyCall:
            if not isinstance(region, CallRegion) or all(id(product) not in shared for product in region.products):
                return region
            return region.with_products(lambda product: shared.get(id(product), product))

        return change

    def _offers(self, product: PackedProduct) -> list[_Offer]:
        """As it is packed, and packed for a run, where `a` counts less; nothing where a seed may serve no second request."""
        parameters = product.parameterized.parameters
        requests = most_requests(parameters, self.calls, self.security_bits)
        if requests == 1:
            return []
        weights, repacked = encrypted_weights(product.parameterized.quantized), []
        for batch in range(1, len(product.choices) + 1):
            repacked.append(_packed(weights, batch * product.multiple, self.machine, parameters, requests))
        alone = product.choices[0]
        before = layer_cost(alone.layout, parameters.q_bits, (alone.drop_b, alone.drop_a), self.machine)
        found = []
        for choices in (product.choices, tuple(repacked)):
            costs = [kept_cost(choice, self.machine, requests) for choice in choices]
            gain_s = self._seconds(before) - costs[0].mean_of(self._seconds)
            shared = replace(product, choices=choices, requests=requests)
            found.append(_Offer(shared, gain_s, max(cost.client_bytes for cost in costs)))
        return found

    def _seconds(self, cost: Cost) -> float:
        return objective(cost, self.machine)

    def summary(self, before: Program, after: Program) -> str:
        shared = [each for each in after.products if isinstance(each, PackedProduct) and each.requests > 1]
        sizes = [kept_cost(each.choices[0], self.machine, each.requests).client_bytes for each in shared]
        return f"{len(shared)} layers, {sum(sizes) / 2**20:.2f} MiB at the client at batch 1" if shared else "nothing to do"


def _packed(weights: Weights, elements: int, machine: Machine, parameters: Parameters, requests: int) -> Choice:
    found = choose(weights, elements, machine, parameters, requests=requests)
    if found is None:
        raise InternalError(f"no packing for {elements} pictures under {parameters}")
    return found
