"""The problem of choosing a plan: the options of every group of layers, and what any choice among them costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from hecompile.errors import CompileError
from hecompile.ir.candidates import Candidate, Cost
from hecompile.ir.graph import ModelGraph
from hecompile.ir.layer_groups import LayerGroup, layer_groups
from hecompile.ir.layers import secret_shapes
from hecompile.ir.runs import constant_in_a_run
from hecompile.machine import Machine, seconds_of
from hecompile.planner.choices import Option, RevealOption, entries_of, options_of, reveals_for
from hecompile.planner.distortion import LayerDistortion
from hecompile.planner.local import graph_work

__all__ = [
    "Budgets",
    "MultiLayerRegion",
    "Problem",
    "Run",
    "Totals",
    "groups_of",
    "levels_of",
    "problem_of",
    "rounds_of",
    "totals_of",
]


MULTI_LAYER_STEPS = 127  # the largest integer to which values within a multi-layer region are taken to be rounded


@dataclass(frozen=True)
class Totals:
    """What a call of the model costs under one choice."""

    latency_s: float
    client_s: float
    rounds: int
    client_weights_mib: float  # int8 weights that the client holds
    distortion: float  # relative variance of the output
    leakage: float  # share of the secret entries that layers read which are revealed
    server_mib: float  # largest memory of the server's process
    mb_first: float  # traffic of a run's first call, both ways together
    mb_later: float  # traffic of every later call


@dataclass(frozen=True)
class Budgets:
    """The limits of a plan: for each field the largest value of the field of `Totals` with its name. None is no limit."""

    client_s: float | None = None
    rounds: int | None = None
    client_weights_mib: float | None = None
    distortion: float | None = None
    leakage: float | None = None
    server_mib: float | None = None
    mb_first: float | None = None
    mb_later: float | None = None

    def kept_by(self, totals: Totals) -> bool:
        """Return whether these totals keep all limits."""
        limits = [(getattr(self, field.name), getattr(totals, field.name)) for field in fields(self)]
        return all(limit is None or value <= limit for limit, value in limits)


@dataclass(frozen=True)
class Run:
    """A sampling run: how many calls of the model it has, and how many bytes the client may keep of the first for the others."""

    calls: int = 1
    client_cache_bytes: int = 0


@dataclass(frozen=True)
class MultiLayerRegion:
    """A region of several groups of layers and the nodes between them, which one request may run.

    `groups` and `reads` are numbers of groups: those in the region, and those whose results it reads.
    """

    nodes: tuple[str, ...]
    groups: tuple[int, ...]
    reads: tuple[int, ...]


@dataclass(frozen=True)
class Problem:
    """The groups of layers in execution order: the names of their layers, their options, and the groups that each reads from."""

    names: tuple[tuple[str, ...], ...]
    options: tuple[tuple[Option, ...], ...]
    before: tuple[tuple[int, ...], ...]
    entries: int  # secret entries that the layers read
    local_s: float  # CPU seconds of the client that no choice changes
    machine: Machine
    multi_layer_regions: tuple[MultiLayerRegion, ...] = ()
    client_cache_bytes: int = 0  # the most bytes that the client may keep for a run


def problem_of(
    graph: ModelGraph,
    machine: Machine,
    reveals: Mapping[str, Sequence[RevealOption]] | None = None,
    distortions: Sequence[LayerDistortion] | None = None,
    backends: Sequence[str] = (),
    multi_layer: Sequence[Candidate] = (),
    run: Run | None = None,
) -> Problem:
    """Return the problem of choosing a plan for a graph whose secrets are marked.

    Args:
        reveals: the ways in which layers may reveal a part of their input, by name; None: nothing is revealed.
        distortions: those of `groups_of(graph, multi_layer)`, in this order. Multi-layer regions distort like layers of eight bits.
        backends: those under which a layer may run at the server. Requests of two backends at one depth count as one round.
        multi_layer: priced candidates that run several groups in one request; they must not share a node.
        run: the calls of a run, and what the client may keep for it; by default every call is a run of its own.
    """
    groups, run = groups_of(graph, multi_layer), run or Run()
    measured: Sequence[LayerDistortion | None] = distortions or [None] * len(groups)
    constant = constant_in_a_run(graph)
    options = tuple(
        options_of(group, machine, reveals_for(group, reveals or {}), distortion, backends, run.calls, constant[group.input])
        for group, distortion in zip(groups, measured, strict=True)
    )
    layers = {node for group in groups for node in group.nodes}
    local = graph_work([node for node in graph.nodes if node.name not in layers], 1)
    entries = sum(entries_of(group) for group in groups)
    before, nearest = _before(graph, groups)
    regions = tuple(_multi_layer_region(graph, candidate, groups, nearest) for candidate in multi_layer)
    for number, (region, candidate) in enumerate(zip(regions, multi_layer, strict=True)):
        taken = [node for node in graph.nodes if node.name in set(region.nodes) - layers]
        client_s = candidate.cost.client_s - graph_work(taken, 1).seconds(machine)
        cost = replace(candidate.cost, client_s=client_s, peak_mib=0.0, rounds=0)  # rounds follow from the choice
        for place in region.groups:
            first = place == region.groups[0]
            kept = round(candidate.cost.peak_mib * 2**20) if first else 0  # keys and plaintexts stay as long as the session
            layer_distortion = measured[place]
            error_var = 0.0 if layer_distortion is None else layer_distortion.error_var(MULTI_LAYER_STEPS)
            own = replace(cost if first else Cost(), error_var=error_var)
            sent = own.sent_bytes
            option = Option("server", own, server_weights=kept, region=number, first_bytes=sent, later_bytes=sent)
            options = (*options[:place], (*options[place], option), *options[place + 1 :])
    names, local_s = tuple(group.names for group in groups), local.seconds(machine)
    return Problem(names, options, before, entries, local_s, machine, regions, run.client_cache_bytes)


def groups_of(graph: ModelGraph, multi_layer: Sequence[Candidate] = ()) -> list[LayerGroup]:
    """Return the groups of a graph's layers. Layers of different multi-layer regions are never in one group."""
    return layer_groups(graph, _grouped(graph, multi_layer)) if multi_layer else layer_groups(graph)


def _grouped(graph: ModelGraph, multi_layer: Sequence[Candidate]) -> dict[str, str]:
    """For every layer by name, the number of the multi-layer region that it may run in, as text; empty for none."""
    places = {name: str(number) for number, candidate in enumerate(multi_layer) for name in candidate.nodes}
    return {shape.nodes[-1]: places.get(shape.nodes[-1], "") for shape in secret_shapes(graph)}


def _multi_layer_region(
    graph: ModelGraph, candidate: Candidate, groups: Sequence[LayerGroup], nearest: Mapping[str, frozenset[int]]
) -> MultiLayerRegion:
    inside = set(candidate.nodes)
    places = tuple(place for place, group in enumerate(groups) if group.names[0] in inside)
    outside = [argument for node in graph.nodes if node.name in inside for argument in node.all_input_nodes]
    reads = frozenset[int]().union(*(nearest[argument.name] for argument in outside if argument.name not in inside))
    return MultiLayerRegion(candidate.nodes, places, tuple(sorted(reads - set(places))))


def _before(graph: ModelGraph, groups: Sequence[LayerGroup]) -> tuple[tuple[tuple[int, ...], ...], dict[str, frozenset[int]]]:
    """The groups that each group reads from, and by name those that each value depends on, without groups further up."""
    number = {name: place for place, group in enumerate(groups) for name in group.names}
    nearest: dict[str, frozenset[int]] = {}
    before = [frozenset[int]()] * len(groups)
    for node in graph.nodes:
        read = frozenset[int]().union(*(nearest[argument.name] for argument in node.all_input_nodes))
        if node.name in number:
            before[number[node.name]] |= read
            read = frozenset({number[node.name]})
        nearest[node.name] = read
    return tuple(tuple(sorted(earlier)) for earlier in before), nearest


def rounds_of(problem: Problem, choice: Sequence[int]) -> int:
    """Requests in a row that a choice needs."""
    return max(levels_of(problem, choice), default=0)


def levels_of(problem: Problem, choice: Sequence[int]) -> list[int]:
    """For each group, the number of the request that answers it, from 1; for a group at the client, of the last one it waits for.

    Raises:
        CompileError: if a region waits for itself, by way of another.
    """
    taken = [problem.options[place][number] for place, number in enumerate(choice)]
    level = [0] * len(taken)
    for _ in range(len(taken) + 1):
        before = list(level)
        for place, option in enumerate(taken):
            reads = problem.before[place] if option.region is None else problem.multi_layer_regions[option.region].reads
            level[place] = max((level[earlier] for earlier in reads), default=0) + (option.side == "server")
        if level == before:
            return level
    raise CompileError("regions of the plan wait for each other")


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
        cost.revealed / max(problem.entries, 1),
        problem.machine.base_mib + weights + largest,
        sum(option.first_bytes for option in taken) / 1e6,
        sum(option.later_bytes for option in taken) / 1e6,
    )
