"""What the linear layers of a graph cost under the integer backends.

Layers that read one value in one way share a request's uploads, as `split` stacks them; they are priced as one.
"""

from __future__ import annotations

from math import prod

from hecompile.backends.bfv.choose import Choice, Weights, choose
from hecompile.backends.bfv.costs import Released, layer_cost
from hecompile.ir.candidates import Candidate, Cost
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.graph import ModelGraph
from hecompile.ir.layer_groups import Stack
from hecompile.ir.layers import secret_shapes
from hecompile.ir.linear import Geometry
from hecompile.machine import Machine

__all__ = ["candidates", "cost_of", "parameters_for", "released_of"]


def parameters_for(stack: Stack, machine: Machine, batch: int = 1, split: ChannelSplit | None = None) -> Choice | None:
    """Parameters and packing for a stack, its channels split so; for the largest weights there can be if it has none.

    None if no parameters carry it.
    """
    split = split or stack.split
    geometry, values = split.encrypted_geometry(stack.geometry), stack.weights
    row_norm = Weights(stack.geometry, values).row_norm
    encrypted = None if values is None else split.encrypted_of(values, stack.geometry)
    weights = Weights(geometry, encrypted, row_norm, bool(split.released), split.slots)
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


def candidates(graph: ModelGraph, machine: Machine, backend: str) -> list[Candidate]:
    """One candidate per linear layer of secret data, without a price: the optimiser prices stacks of them."""
    return [Candidate(shape.nodes, Cost(rounds=1), backend) for shape in secret_shapes(graph)]
