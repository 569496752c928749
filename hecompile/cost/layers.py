"""What the linear layers of a graph cost under the integer backends."""

from __future__ import annotations

from hecompile.backends.base import Candidate, Cost
from hecompile.backends.bfv.parameters import Choice, Weights, choose
from hecompile.cost.machine import Machine
from hecompile.cost.model import layer_cost
from hecompile.ir.graph import ModelGraph
from hecompile.ir.layers import LayerShape, secret_shapes

__all__ = ["candidates", "cost_of", "parameters_for"]


def parameters_for(shape: LayerShape, machine: Machine, batch: int = 1) -> Choice | None:
    """Parameters and packing from the shape alone, for the largest weights there can be; None if nothing carries those."""
    return choose(Weights(shape.geometry, None), batch * shape.multiple, machine)


def cost_of(choice: Choice, machine: Machine) -> Cost:
    """The cost of a layer with its choice."""
    return layer_cost(choice.layout, choice.parameters.q_bits, (choice.drop_b, choice.drop_a), machine)


def candidates(graph: ModelGraph, machine: Machine, backend: str) -> list[Candidate]:
    """One candidate per linear layer of secret data, at the cost of its worst weights: the real ones cost no more."""
    found = []
    for shape in secret_shapes(graph):
        choice = parameters_for(shape, machine)
        found.append(Candidate(shape.nodes, Cost(rounds=1) if choice is None else cost_of(choice, machine), backend))
    return found
