"""What linear layers cost under `bfv`, in a graph or as they were lowered.

Layers that read one value in one way share a request's uploads, as `split` stacks them; they are priced as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from hecompile.backends.bfv.choose import BELL, LARGEST, Choice, Weights, choose
from hecompile.backends.bfv.costs import Released, layer_cost
from hecompile.backends.bfv.program import RegionProgram
from hecompile.ir.candidates import Candidate, Cost, LayerPrice, PartCost
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.graph import ModelGraph
from hecompile.ir.layer_groups import Stack, multiplied
from hecompile.ir.layers import secret_shapes
from hecompile.ir.linear import Geometry
from hecompile.machine import Machine

__all__ = ["candidates", "cost_of", "layer_prices", "parameters_for", "program_costs", "released_of"]


def parameters_for(stack: Stack, machine: Machine, batch: int = 1, split: ChannelSplit | None = None) -> Choice | None:
    """Parameters and packing for a stack, its channels split so; for the largest weights there can be if it has none.

    Where no parameters carry the largest weights, they are for weights of a bell's shape. None if no parameters carry it.
    """
    found = _parameters_for(stack, machine, batch, split or stack.split, LARGEST)
    if found is None and stack.weights is None:
        return _parameters_for(stack, machine, batch, split or stack.split, BELL)
    return found


def _parameters_for(stack: Stack, machine: Machine, batch: int, split: ChannelSplit, assumed: tuple[float, float]) -> Choice | None:
    geometry, values = split.encrypted_geometry(stack.geometry), stack.weights
    row_norm = Weights(stack.geometry, values, assumed=assumed).row_norm
    encrypted = None if values is None else split.encrypted_of(values, stack.geometry)
    weights = Weights(geometry, encrypted, row_norm, split.slots, assumed)
    found = choose(weights, stack.multiple, machine)  # as select-parameters does
    return None if found is None else choose(weights, batch * stack.multiple, machine, found.parameters)  # as pack does


def released_of(geometry: Geometry, split: ChannelSplit, elements: int, t_bits: int) -> Released | None:
    """What is shown in clear of a layer's input; None for nothing. Sums are as wide as plaintexts, t_bits."""
    if not split.shows:
        return None
    shape = split.shown_shape(geometry, elements)
    columns, sum_bits = prod(geometry.grid) * elements, t_bits if split.tiles else 0
    return Released(prod(shape), split.bits, geometry.rows, shape[1] * len(geometry.taps), columns, sum_bits)


def cost_of(choice: Choice, machine: Machine, released: Released | None = None) -> Cost:
    """The cost of a layer with its choice for the encrypted part."""
    return layer_cost(choice.layout, choice.parameters.q_bits, (choice.drop_b, choice.drop_a), machine, released)


def candidates(graph: ModelGraph, backend: str) -> list[Candidate]:
    """One candidate per linear layer of secret data, without a price: layers are priced in groups."""
    return [Candidate(shape.nodes, Cost(rounds=1), backend) for shape in secret_shapes(graph)]


def layer_prices(group: Stack, machine: Machine, splits: Sequence[ChannelSplit], batch: int) -> list[LayerPrice]:
    """The price of a group of layers with each of these splits that parameters carry."""
    geometry, prices = group.geometry, list[LayerPrice]()
    for split in splits:
        choice = parameters_for(group, machine, batch, split)
        if choice is None:
            continue
        released = released_of(geometry, split, group.multiple * batch, choice.parameters.t_bits)
        cost, share = cost_of(choice, machine, released), split.encrypted_share(geometry)
        prices.append(LayerPrice(cost, choice.parameters.limit, share, 2.0 ** (split.bits - 1)))
    return prices


def program_costs(program: RegionProgram, machine: Machine, batch: int) -> list[PartCost]:
    """The layers of a lowered region, with the parameters that they have."""
    parts = []
    for layer in program.body.layers:
        row = layer.packings[batch - 1]
        released = released_of(layer.geometry, layer.split, layer.multiple * batch, layer.parameters.t_bits)
        cost = layer_cost(layer.layout(batch), layer.parameters.q_bits, (row.drop_b, row.drop_a), machine, released)
        weights = multiplied(layer.geometry, layer.split)
        macs = weights * prod(layer.geometry.grid) * layer.multiple * batch
        parts.append(PartCost(cost, len(layer.parts), macs, weights))
    return parts
