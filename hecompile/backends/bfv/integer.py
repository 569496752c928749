"""The base of the backends `bfv` and `clear`: exact integer layers, with proved parameters and a packing per batch size."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hecompile.backends.base import Backend, Description, Guarantee
from hecompile.backends.bfv.parameters import Parameters
from hecompile.backends.bfv.program import LayerProgram, region_program

if TYPE_CHECKING:
    from hecompile.backends.context import Context
    from hecompile.ir.candidates import Candidate, LayerPrice, PartCost
    from hecompile.ir.channels import ChannelSplit
    from hecompile.ir.graph import ModelGraph
    from hecompile.ir.halves import ClientHalf, Half
    from hecompile.ir.layer_groups import LayerGroup
    from hecompile.ir.passes import RegionPass
    from hecompile.ir.regions import AnyCall, Lowered, Program
    from hecompile.machine import Machine

__all__ = ["IntegerBackend"]


class IntegerBackend(Backend):
    """A backend whose regions are exact integer products, each of a single linear layer."""

    guarantee = Guarantee(stateless=True)

    @abstractmethod
    def prime(self, parameters: Parameters) -> int:
        """The ciphertext modulus q that the document gets for these parameters."""

    def propose(self, graph: ModelGraph, context: Context) -> list[Candidate]:
        from hecompile.backends.bfv.pricing import candidates

        return candidates(graph, self.name)

    def lowering(self, context: Context) -> Sequence[RegionPass]:
        from hecompile.backends.bfv.pack import Pack
        from hecompile.backends.bfv.select_parameters import SelectParameters
        from hecompile.backends.lower import Lower
        from hecompile.backends.quantize import Quantize

        return (
            Quantize(self.name),  # integers are exact: rounding happens here and nowhere else
            SelectParameters(self.name, context.security_bits, context.machine),  # proofs need the rounded weights
            Pack(self.name, context.max_batch, context.machine),  # layouts need the ring
            *self.packed(context),
            Lower(self.name, self._halves, lambda half: self.describe(half).parameters),  # two halves that share no secret
        )

    def packed(self, context: Context) -> Sequence[RegionPass]:
        """The passes that run between packing and lowering: none here. A subclass may return its own."""
        return ()

    def _halves(self, program: Program) -> Callable[[AnyCall], Lowered]:
        from hecompile.backends.bfv.lowering import lower_layers

        return lambda region: lower_layers(region, self.name, self.prime)

    def carries(self, group: LayerGroup, security_bits: int) -> bool:
        from hecompile.backends.bfv.carried import carried

        return carried(group, security_bits)

    def price_layers(
        self, group: LayerGroup, machine: Machine, splits: Sequence[ChannelSplit] = (), batch: int = 1, calls: int = 1
    ) -> list[LayerPrice]:
        from hecompile.backends.bfv.pricing import layer_prices

        return layer_prices(group, machine, splits or (group.split,), batch, calls)

    def price(self, half: ClientHalf, machine: Machine, batch: int) -> list[PartCost]:
        from hecompile.backends.bfv.pricing import program_costs

        return program_costs(region_program(half), machine, batch)

    def describe(self, half: Half) -> Description:
        layers = region_program(half).body.layers
        rings = sorted({(layer.parameters.dimension, layer.parameters.q_bits, layer.parameters.t_bits) for layer in layers})
        first = [layer.packings[0] for layer in layers]
        tightest = min(first, key=lambda row: row.budget_bits - row.noise_bits)
        return Description(
            layers=sum(len(layer.parts) for layer in layers),
            parameters="; ".join(f"N{dimension} q{q} t{t}" for dimension, q, t in rings),
            proof=", ".join(sorted({row.proof for row in first})),
            noise_bits=tightest.noise_bits,
            budget_bits=tightest.budget_bits,
            reveals=tuple(_reveal(layer) for layer in layers if layer.split.reveals),
        )


def _reveal(layer: LayerProgram) -> str:
    """A sentence for `Description.reveals`: what a request reveals of a layer's input, and how many entries of a sample that is."""
    split, tiles = layer.split, layer.split.tiles
    if tiles is None:
        what = f"{len(split.revealed)} of {split.channels} channels"
    else:
        what = f"{len(tiles.revealed)} of {tiles.rows} x {tiles.columns} tiles"
    shape = split.revealed_shape(layer.geometry, layer.images_per_sample)
    return f"{layer.input}: {what} at {split.bits} bits, {math.prod(shape)} entries"
