"""What a plan is chosen from, and what any choice costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from hecompile.backends.base import Cost
from hecompile.cost.choices import Option, Reveal, entries_of, options_of, reveals_for
from hecompile.cost.distortion import LayerDistortion
from hecompile.cost.layers import Stack, stacks
from hecompile.cost.local import graph_work
from hecompile.cost.machine import Machine
from hecompile.cost.model import seconds_of
from hecompile.ir.graph import ModelGraph

__all__ = ["Budgets", "Problem", "Totals", "problem_of", "rounds_of", "totals_of"]


@dataclass(frozen=True)
class Totals:
    """What a call of the model costs under a choice."""

    latency_s: float
    client_s: float
    rounds: int
    client_weights_mib: float  # int8 weights that the client holds
    distortion: float  # relative variance of the output
    leakage: float  # share of the secret entries that layers read which the server sees in clear
    server_mib: float  # most memory of the server's process


@dataclass(frozen=True)
class Budgets:
    """Limits of a plan, each of the field of `Totals` with its name; None is no limit."""

    client_s: float | None = None
    rounds: int | None = None
    client_weights_mib: float | None = None
    distortion: float | None = None
    leakage: float | None = None
    server_mib: float | None = None

    def kept_by(self, totals: Totals) -> bool:
        """Whether a choice keeps all of them."""
        limits = [(getattr(self, each.name), getattr(totals, each.name)) for each in fields(self)]
        return all(limit is None or found <= limit for limit, found in limits)


@dataclass(frozen=True)
class Problem:
    """Stacks of layers in execution order: their names, their options, and which stacks each reads from."""

    names: tuple[tuple[str, ...], ...]
    options: tuple[tuple[Option, ...], ...]
    before: tuple[tuple[int, ...], ...]
    entries: int  # secret entries that the layers read
    local_s: float  # of the client, whatever is chosen
    machine: Machine


def problem_of(
    graph: ModelGraph,
    machine: Machine,
    reveals: Mapping[str, Sequence[Reveal]] | None = None,
    distortions: Sequence[LayerDistortion] | None = None,
    backends: Sequence[str] = ("bfv",),
) -> Problem:
    """Options and dependencies of a graph whose secrets are marked.

    Args:
        reveals: what layers may show, by name; nothing under a strict policy.
        distortions: of `stacks(graph)`, in their order.
        backends: under which a layer may run at the server; two of them at one depth cost one round in this count.
    """
    found = stacks(graph)
    measured: Sequence[LayerDistortion | None] = distortions or [None] * len(found)
    options = tuple(
        options_of(each, machine, reveals_for(each, reveals or {}), distortion, backends)
        for each, distortion in zip(found, measured, strict=True)
    )
    layers = {node for each in found for node in each.nodes}
    local = graph_work([node for node in graph.nodes if node.name not in layers], 1)
    entries = sum(entries_of(each) for each in found)
    return Problem(tuple(each.names for each in found), options, _before(graph, found), entries, local.seconds(machine), machine)


def _before(graph: ModelGraph, found: Sequence[Stack]) -> tuple[tuple[int, ...], ...]:
    """The nearest stacks above each."""
    number = {name: place for place, each in enumerate(found) for name in each.names}
    nearest: dict[str, frozenset[int]] = {}
    before = [frozenset[int]()] * len(found)
    for node in graph.nodes:
        read = frozenset[int]().union(*(nearest[argument.name] for argument in node.all_input_nodes))
        if node.name in number:
            before[number[node.name]] |= read
            read = frozenset({number[node.name]})
        nearest[node.name] = read
    return tuple(tuple(sorted(each)) for each in before)


def rounds_of(problem: Problem, choice: Sequence[int]) -> int:
    """Requests in a row that a choice needs."""
    level: list[int] = []
    for place, number in enumerate(choice):
        at_server = problem.options[place][number].side == "server"
        level.append(max((level[earlier] for earlier in problem.before[place]), default=0) + at_server)
    return max(level, default=0)


def totals_of(problem: Problem, choice: Sequence[int]) -> Totals:
    """Predicted totals of any choice."""
    taken = [options[number] for options, number in zip(problem.options, choice, strict=True)]
    cost = sum((option.cost for option in taken), Cost(client_s=problem.local_s, rounds=rounds_of(problem, choice)))
    weights = sum(option.server_weights for option in taken) / 2**20
    largest = max((option.cost.peak_mib for option in taken), default=0.0)
    return Totals(
        seconds_of(replace(cost, peak_mib=0.0), problem.machine),
        cost.client_s,
        cost.rounds,
        sum(option.client_weights for option in taken) / 2**20,
        cost.error_var,
        cost.released / max(problem.entries, 1),
        problem.machine.base_mib + weights + largest,
    )
