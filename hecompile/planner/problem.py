"""What a plan is chosen from, and what any choice costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from hecompile.errors import CompileError
from hecompile.ir.candidates import Candidate, Cost
from hecompile.ir.graph import ModelGraph
from hecompile.ir.layer_groups import Stack, stacks
from hecompile.ir.layers import secret_shapes
from hecompile.ir.runs import constant_in_a_run
from hecompile.machine import Machine, seconds_of
from hecompile.planner.choices import Option, Reveal, entries_of, options_of, reveals_for
from hecompile.planner.distortion import LayerDistortion
from hecompile.planner.local import graph_work

__all__ = ["Budgets", "Chain", "Problem", "Run", "Totals", "levels_of", "problem_of", "rounds_of", "stacks_of", "totals_of"]


CHAIN_STEPS = 127  # of the values that layers within a chain read, on either side of zero


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
    mb_first: float  # that travel in a run's first call, both ways
    mb_later: float  # and in every other call


@dataclass(frozen=True)
class Budgets:
    """Limits of a plan, each of the field of `Totals` with its name; None is no limit."""

    client_s: float | None = None
    rounds: int | None = None
    client_weights_mib: float | None = None
    distortion: float | None = None
    leakage: float | None = None
    server_mib: float | None = None
    mb_first: float | None = None
    mb_later: float | None = None

    def kept_by(self, totals: Totals) -> bool:
        """Whether a choice keeps all of them."""
        limits = [(getattr(self, each.name), getattr(totals, each.name)) for each in fields(self)]
        return all(limit is None or found <= limit for limit, found in limits)


@dataclass(frozen=True)
class Run:
    """Calls of the model that belong together, and how many bytes the client keeps of the first for the others at most."""

    calls: int = 1
    client_cache_bytes: int = 0


@dataclass(frozen=True)
class Chain:
    """Stacks and what lies between them that one request may run together, and the stacks that it reads from."""

    nodes: tuple[str, ...]
    stacks: tuple[int, ...]
    reads: tuple[int, ...]


@dataclass(frozen=True)
class Problem:
    """Stacks of layers in execution order: their names, their options, and which stacks each reads from."""

    names: tuple[tuple[str, ...], ...]
    options: tuple[tuple[Option, ...], ...]
    before: tuple[tuple[int, ...], ...]
    entries: int  # secret entries that the layers read
    local_s: float  # of the client, whatever is chosen
    machine: Machine
    chains: tuple[Chain, ...] = ()
    client_cache_bytes: int = 0  # that the client keeps for a run at most


def problem_of(
    graph: ModelGraph,
    machine: Machine,
    reveals: Mapping[str, Sequence[Reveal]] | None = None,
    distortions: Sequence[LayerDistortion] | None = None,
    backends: Sequence[str] = (),
    chained: Sequence[Candidate] = (),
    run: Run | None = None,
) -> Problem:
    """Options and dependencies of a graph whose secrets are marked.

    Args:
        reveals: what layers may show, by name; nothing under a strict policy.
        distortions: of `stacks_of(graph, chained)`, in their order. Chains distort as layers with values of eight bits do.
        backends: under which a layer may run at the server; two of them at one depth cost one round in this count.
        chained: priced candidates that run several stacks in one request; they share no node.
        run: what the client may keep for a run; by default every call is one of its own.
    """
    found, run = stacks_of(graph, chained), run or Run()
    measured: Sequence[LayerDistortion | None] = distortions or [None] * len(found)
    constant = constant_in_a_run(graph)
    options = tuple(
        options_of(each, machine, reveals_for(each, reveals or {}), distortion, backends, run.calls, constant[each.input])
        for each, distortion in zip(found, measured, strict=True)
    )
    layers = {node for each in found for node in each.nodes}
    local = graph_work([node for node in graph.nodes if node.name not in layers], 1)
    entries = sum(entries_of(each) for each in found)
    before, nearest = _before(graph, found)
    chains = tuple(_chain(graph, each, found, nearest) for each in chained)
    for number, (chain, candidate) in enumerate(zip(chains, chained, strict=True)):
        taken = [node for node in graph.nodes if node.name in set(chain.nodes) - layers]
        client_s = candidate.cost.client_s - graph_work(taken, 1).seconds(machine)
        cost = replace(candidate.cost, client_s=client_s, peak_mib=0.0, rounds=0)  # rounds follow from the choice
        for place in chain.stacks:
            first = place == chain.stacks[0]
            kept = round(candidate.cost.peak_mib * 2**20) if first else 0  # keys and plaintexts stay as long as the session
            found_error = measured[place]
            error_var = 0.0 if found_error is None else found_error.error_var(CHAIN_STEPS)
            own = replace(cost if first else Cost(), error_var=error_var)
            sent = own.sent_bytes
            option = Option("server", own, server_weights=kept, chain=number, first_bytes=sent, later_bytes=sent)
            options = (*options[:place], (*options[place], option), *options[place + 1 :])
    names, local_s = tuple(each.names for each in found), local.seconds(machine)
    return Problem(names, options, before, entries, local_s, machine, chains, run.client_cache_bytes)


def stacks_of(graph: ModelGraph, chained: Sequence[Candidate] = ()) -> list[Stack]:
    """The stacks of a graph; layers of different chains are not stacked."""
    return stacks(graph, _grouped(graph, chained)) if chained else stacks(graph)


def _grouped(graph: ModelGraph, chained: Sequence[Candidate]) -> dict[str, str]:
    """Which chain every layer may run in: layers of different ones are not stacked."""
    places = {name: str(number) for number, candidate in enumerate(chained) for name in candidate.nodes}
    return {shape.nodes[-1]: places.get(shape.nodes[-1], "") for shape in secret_shapes(graph)}


def _chain(graph: ModelGraph, candidate: Candidate, found: Sequence[Stack], nearest: Mapping[str, frozenset[int]]) -> Chain:
    inside = set(candidate.nodes)
    places = tuple(place for place, each in enumerate(found) if each.names[0] in inside)
    outside = [argument for node in graph.nodes if node.name in inside for argument in node.all_input_nodes]
    reads = frozenset[int]().union(*(nearest[argument.name] for argument in outside if argument.name not in inside))
    return Chain(candidate.nodes, places, tuple(sorted(reads - set(places))))


def _before(graph: ModelGraph, found: Sequence[Stack]) -> tuple[tuple[tuple[int, ...], ...], dict[str, frozenset[int]]]:
    """The nearest stacks above each, and above every value."""
    number = {name: place for place, each in enumerate(found) for name in each.names}
    nearest: dict[str, frozenset[int]] = {}
    before = [frozenset[int]()] * len(found)
    for node in graph.nodes:
        read = frozenset[int]().union(*(nearest[argument.name] for argument in node.all_input_nodes))
        if node.name in number:
            before[number[node.name]] |= read
            read = frozenset({number[node.name]})
        nearest[node.name] = read
    return tuple(tuple(sorted(each)) for each in before), nearest


def rounds_of(problem: Problem, choice: Sequence[int]) -> int:
    """Requests in a row that a choice needs."""
    return max(levels_of(problem, choice), default=0)


def levels_of(problem: Problem, choice: Sequence[int]) -> list[int]:
    """The request, counted from one, that answers each stack; for one at the client, the last that it waits for.

    Raises:
        CompileError: if a chain waits for itself, by way of another.
    """
    taken = [problem.options[place][number] for place, number in enumerate(choice)]
    level = [0] * len(taken)
    for _ in range(len(taken) + 1):
        before = list(level)
        for place, option in enumerate(taken):
            reads = problem.before[place] if option.chain is None else problem.chains[option.chain].reads
            level[place] = max((level[earlier] for earlier in reads), default=0) + (option.side == "server")
        if level == before:
            return level
    raise CompileError("a plan's chains wait for each other")


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
        sum(option.first_bytes for option in taken) / 1e6,
        sum(option.later_bytes for option in taken) / 1e6,
    )
