"""What linear layers cost under `bfv`: layers of a graph, and layers of a lowered region.

Layers that read one value in the same way share a request's uploads, as `split` groups them. They are priced as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from hecompile.backends.bfv.choose import BELL, LARGEST, Choice, Weights, choose
from hecompile.backends.bfv.costs import Revealed, layer_cost
from hecompile.backends.bfv.forms import product_form
from hecompile.backends.bfv.memory import ordered_bytes
from hecompile.backends.bfv.program import RegionProgram
from hecompile.backends.bfv.sharing import kept_cost, most_requests, shared_cost
from hecompile.ir.candidates import Candidate, Cost, Kept, LayerPrice, PartCost
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.graph import ModelGraph
from hecompile.ir.layer_groups import LayerGroup, multiplied
from hecompile.ir.layers import secret_shapes
from hecompile.ir.linear import Geometry
from hecompile.machine import Machine

__all__ = ["candidates", "cost_of", "layer_prices", "parameters_for", "program_costs", "revealed_of"]

SECURITY_BITS = 128  # of plans: the only level that has a table


def parameters_for(group: LayerGroup, machine: Machine, batch: int = 1, split: ChannelSplit | None = None) -> Choice | None:
    """Parameters and packing for a group of layers with this split of its channels; None if no parameters carry it.

    A group without weights is priced with int8 weights of a bell-shaped distribution. One that is marked `largest` is priced with
    weights that are all as large as possible, if a ring carries those.
    """
    weights = _weights(group, split or group.split, LARGEST if group.largest else BELL)
    single = choose(weights, group.images_per_sample, machine)  # as select-parameters does
    if single is None:
        return parameters_for(replace(group, largest=False), machine, batch, split) if group.largest else None
    return choose(weights, batch * group.images_per_sample, machine, single.parameters)  # as pack does


def _weights(group: LayerGroup, split: ChannelSplit, assumed: tuple[float, float]) -> Weights:
    """The weights on which the parameters of a group depend, or the norms that are assumed for them."""
    values = group.weights
    row_norm = Weights(group.geometry, values, assumed=assumed).row_norm
    encrypted = None if values is None else split.encrypted_of(values, group.geometry)
    return Weights(split.encrypted_geometry(group.geometry), encrypted, row_norm, split.tiles_per_picture, assumed)


def _kept(
    group: LayerGroup, machine: Machine, batch: int, split: ChannelSplit, alone: Choice, revealed: Revealed | None, calls: int
) -> tuple[Kept, ...]:
    """The costs of requests of a run that share seeds; empty if a seed may serve one request only."""
    requests = most_requests(alone.parameters, calls, SECURITY_BITS)
    if requests == 1:
        return ()
    weights = _weights(group, split, LARGEST if group.largest else BELL)
    choice = choose(weights, batch * group.images_per_sample, machine, alone.parameters, requests=requests)
    return tuple(kept_cost(option, machine, requests, revealed) for option in (alone, choice) if option)  # as share-seeds does


def revealed_of(geometry: Geometry, split: ChannelSplit, elements: int, t_bits: int) -> Revealed | None:
    """The revealed part of a layer's input, or None. With tiles, its sums are sent with t_bits each."""
    if not split.reveals:
        return None
    shape = split.revealed_shape(geometry, elements)
    columns, sum_bits = prod(geometry.grid) * elements, t_bits if split.tiles else 0
    return Revealed(prod(shape), split.bits, geometry.rows, shape[1] * len(geometry.taps), columns, sum_bits)


def cost_of(choice: Choice, machine: Machine, revealed: Revealed | None = None) -> Cost:
    """The cost of one request for a layer with these parameters for its encrypted part."""
    return layer_cost(choice.layout, choice.parameters.q_bits, (choice.drop_b, choice.drop_a), machine, revealed)


def candidates(graph: ModelGraph, backend: str) -> list[Candidate]:
    """One candidate per linear layer of secret data. It has no price yet, since layers are priced in groups."""
    return [Candidate(shape.nodes, Cost(rounds=1), backend) for shape in secret_shapes(graph)]


def layer_prices(
    group: LayerGroup, machine: Machine, splits: Sequence[ChannelSplit], batch: int, calls: int = 1
) -> list[LayerPrice]:
    """The price of a group of layers with each of these splits, without those that no parameters carry.

    Args:
        calls: calls of the model in a run. Above 1, prices also say what the client may keep for the run.
    """
    geometry, prices = group.geometry, list[LayerPrice]()
    for split in splits:
        choice = parameters_for(group, machine, batch, split)
        if choice is None:
            continue
        revealed = revealed_of(geometry, split, group.images_per_sample * batch, choice.parameters.t_bits)
        cost, share = cost_of(choice, machine, revealed), split.encrypted_share(geometry)
        kept = _kept(group, machine, batch, split, choice, revealed, calls)
        ordered = ordered_bytes(choice.layout, product_form(choice.layout, choice.parameters.q_bits).name)
        prices.append(LayerPrice(cost, choice.parameters.limit, share, 2.0 ** (split.bits - 1), kept, ordered))
    return prices


def program_costs(program: RegionProgram, machine: Machine, batch: int) -> list[PartCost]:
    """The cost of each layer of a lowered region, with the parameters that it has."""
    parts = []
    for layer in program.body.layers:
        row, layout, q_bits = layer.packings[batch - 1], layer.layout(batch), layer.parameters.q_bits
        revealed = revealed_of(layer.geometry, layer.split, layer.images_per_sample * batch, layer.parameters.t_bits)
        shared = shared_cost(layout, q_bits, (row.drop_b, row.drop_a), machine, layer.requests, revealed)
        weights = multiplied(layer.geometry, layer.split)
        macs = weights * prod(layer.geometry.grid) * layer.images_per_sample * batch
        kept = shared if layer.requests > 1 else None
        parts.append(PartCost(shared.first, len(layer.parts), macs, weights, shared.ordered, kept))
    return parts
