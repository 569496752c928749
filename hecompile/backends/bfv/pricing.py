"""What linear layers cost under `bfv`, in a graph or as they were lowered.

Layers that read one value in one way share a request's uploads, as `split` stacks them; they are priced as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from hecompile.backends.bfv.choose import BELL, LARGEST, Choice, Weights, choose
from hecompile.backends.bfv.costs import Released, layer_cost
from hecompile.backends.bfv.forms import product_form
from hecompile.backends.bfv.memory import ordered_bytes
from hecompile.backends.bfv.program import RegionProgram
from hecompile.backends.bfv.sharing import kept_cost, most_requests, shared_cost
from hecompile.ir.candidates import Candidate, Cost, Kept, LayerPrice, PartCost
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.graph import ModelGraph
from hecompile.ir.layer_groups import Stack, multiplied
from hecompile.ir.layers import secret_shapes
from hecompile.ir.linear import Geometry
from hecompile.machine import Machine

__all__ = ["candidates", "cost_of", "layer_prices", "parameters_for", "program_costs", "released_of"]

SECURITY_BITS = 128  # of plans: the only level that there is a table for


def parameters_for(stack: Stack, machine: Machine, batch: int = 1, split: ChannelSplit | None = None) -> Choice | None:
    """Parameters and packing for a stack, its channels split so.

    One without weights is taken to have int8 weights of a bell's shape; a stack of the `largest` has such as are all as large as
    can be, wherever a ring carries those. None if no parameters carry it.
    """
    weights = _weights(stack, split or stack.split, LARGEST if stack.largest else BELL)
    found = choose(weights, stack.multiple, machine)  # as select-parameters does
    if found is None:
        return parameters_for(replace(stack, largest=False), machine, batch, split) if stack.largest else None
    return choose(weights, batch * stack.multiple, machine, found.parameters)  # as pack does


def _weights(stack: Stack, split: ChannelSplit, assumed: tuple[float, float]) -> Weights:
    """What the parameters of a stack depend on."""
    values = stack.weights
    row_norm = Weights(stack.geometry, values, assumed=assumed).row_norm
    encrypted = None if values is None else split.encrypted_of(values, stack.geometry)
    return Weights(split.encrypted_geometry(stack.geometry), encrypted, row_norm, split.slots, assumed)


def _kept(
    stack: Stack, machine: Machine, batch: int, split: ChannelSplit, alone: Choice, released: Released | None, calls: int
) -> tuple[Kept, ...]:
    """What requests of a run cost where they share seeds; nothing where seeds serve one request each."""
    requests = most_requests(alone.parameters, calls, SECURITY_BITS)
    if requests == 1:
        return ()
    weights = _weights(stack, split, LARGEST if stack.largest else BELL)
    choice = choose(weights, batch * stack.multiple, machine, alone.parameters, requests=requests)
    return tuple(kept_cost(each, machine, requests, released) for each in (alone, choice) if each)  # as share-seeds does


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


def layer_prices(group: Stack, machine: Machine, splits: Sequence[ChannelSplit], batch: int, calls: int = 1) -> list[LayerPrice]:
    """The price of a group of layers with each of these splits that parameters carry; in runs of so many calls, where above one."""
    geometry, prices = group.geometry, list[LayerPrice]()
    for split in splits:
        choice = parameters_for(group, machine, batch, split)
        if choice is None:
            continue
        released = released_of(geometry, split, group.multiple * batch, choice.parameters.t_bits)
        cost, share = cost_of(choice, machine, released), split.encrypted_share(geometry)
        kept = _kept(group, machine, batch, split, choice, released, calls)
        ordered = ordered_bytes(choice.layout, product_form(choice.layout, choice.parameters.q_bits).name)
        prices.append(LayerPrice(cost, choice.parameters.limit, share, 2.0 ** (split.bits - 1), kept, ordered))
    return prices


def program_costs(program: RegionProgram, machine: Machine, batch: int) -> list[PartCost]:
    """The layers of a lowered region, with the parameters that they have."""
    parts = []
    for layer in program.body.layers:
        row, layout, q_bits = layer.packings[batch - 1], layer.layout(batch), layer.parameters.q_bits
        released = released_of(layer.geometry, layer.split, layer.multiple * batch, layer.parameters.t_bits)
        shared = shared_cost(layout, q_bits, (row.drop_b, row.drop_a), machine, layer.requests, released)
        weights = multiplied(layer.geometry, layer.split)
        macs = weights * prod(layer.geometry.grid) * layer.multiple * batch
        kept = shared if layer.requests > 1 else None
        parts.append(PartCost(shared.first, len(layer.parts), macs, weights, shared.ordered, kept))
    return parts
