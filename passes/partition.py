"""Which node runs where, and in which round."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter

from hecompile.backends.context import Context
from hecompile.backends.registry import proposals
from hecompile.errors import CompileError, Diagnostic, InternalError
from hecompile.ir.candidates import Candidate
from hecompile.ir.graph import ModelGraph, NodeInfo, info
from hecompile.ir.layers import secret_shapes
from hecompile.ir.ops import RELEASE
from hecompile.ir.releases import Release, narrow_releases
from hecompile.ir.runs import constant_in_a_run
from hecompile.passes.base import Pass
from hecompile.planner.optimise import Budgets, OptimalPlan, optimise
from hecompile.planner.problem import Run
from hecompile.planner.proposals import pins_of, problem_within

__all__ = ["Partition"]

BEST = {"latency": "fastest", "client-cpu": "client's cheapest", "server-cpu": "server's cheapest", "bytes": "smallest"}  # by goal


def greedy_cover(candidates: list[Candidate]) -> dict[str, int]:
    """Node name -> number of the candidate that covers it: every candidate that overlaps no earlier one."""
    cover: dict[str, int] = {}
    for number, candidate in enumerate(candidates):
        if not any(node in cover for node in candidate.nodes):
            cover.update(dict.fromkeys(candidate.nodes, number))
    return cover


def _levels(graph: ModelGraph, cover: dict[str, int]) -> dict[str, int]:
    """As early as possible: a candidate is one level above what it reads, a client node on the highest of its arguments."""

    def unit(name: str) -> str | int:
        return cover.get(name, name)

    reads: dict[str | int, set[str | int]] = {}
    for node in graph.nodes:
        reads.setdefault(unit(node.name), set()).update(unit(argument.name) for argument in node.all_input_nodes)
    level: dict[str | int, int] = {}
    try:
        for each in TopologicalSorter({key: found - {key} for key, found in reads.items()}).static_order():
            level[each] = max((level[read] for read in reads[each] - {each}), default=0) + isinstance(each, int)
    except CycleError as error:
        raise InternalError(f"a path leaves a candidate and returns: {error.args[1]}") from error
    return {node.name: level[unit(node.name)] for node in graph.nodes}


def _places(candidates: list[Candidate], cover: dict[str, int], level: dict[str, int]) -> dict[int, int]:
    """Of every candidate in the cover, how many stand before it at its depth that it shares no region with."""
    found, before = dict[int, int](), dict[tuple[int, str], int]()
    for name, number in cover.items():
        if number in found:
            continue
        key = (level[name], candidates[number].backend)
        found[number] = before.get(key, 0)
        before[key] = found[number] + candidates[number].own_request
    return found


def _narrowed(program: ModelGraph, release: Release, plan: OptimalPlan) -> Release:
    """As much encrypted as any layer of the plan that reads the value wants, and no less than was encrypted before."""
    readers = [shape.nodes[-1] for shape in secret_shapes(program) if shape.input == release.value]
    share = max((plan.encrypted[name] for name in readers if name in plan.encrypted), default=1.0)
    count = max(int(release.encrypted.sum()), round(share * release.encrypted.size))
    return release if count == release.encrypted.sum() else release.with_encrypted(count)


@dataclass(frozen=True)
class Partition(Pass[ModelGraph, ModelGraph]):
    """Tag every node with its domain, region and backend: secret convs and linears to the server, all or the best choice.

    %y = conv2d(%x)   # secret  ->  server_encrypted, region call_03
    %z = silu(%y)     # secret  ->  client, region client_03
    %r = release(%x)  # secret  ->  server_clear, if a layer at the server reads it
    %t = sin(%time)   # public  ->  client
    """

    backend: str
    context: Context = field(default_factory=Context)
    budgets: Budgets | None = None  # None: every candidate that fits; else the best plan within them, by the machine's goal
    pins: tuple[str, ...] = ()
    among: tuple[str, ...] = ()  # further backends that the best plan may use
    calls: Run = field(default_factory=Run)  # of the model in a run, for the best plan

    def run(self, program: ModelGraph) -> ModelGraph:
        candidates = self._candidates(program)
        if self.budgets is not None:
            program, candidates = self._best(program, candidates, self.budgets)
        cover = greedy_cover(candidates)
        level, constant = _levels(program, cover), constant_in_a_run(program)
        places = _places(candidates, cover, level)

        shown = {
            node.name for node in program.nodes if str(node.target) == RELEASE and any(user.name in cover for user in node.users)
        }

        def tag(name: str, record: NodeInfo) -> NodeInfo:
            if name in shown:
                return replace(record, domain="server_clear", region=None, backend=None, per_run=False)
            if name not in cover:
                return replace(record, domain="client", region=f"client_{level[name]:02d}", backend=None, per_run=False)
            candidate = candidates[cover[name]]
            per_run, chosen = all(constant[each] for each in candidate.nodes), candidate.backend
            region = f"{'once' if per_run else 'call'}_{level[name]:02d}"
            region += f"_{chosen}" if candidate.whole or chosen in self.among else ""
            region += f"_{places[cover[name]]}" if places[cover[name]] else ""
            whole = candidate.whole
            return replace(record, domain="server_encrypted", region=region, backend=chosen, per_run=per_run, whole=whole)

        return program.with_infos(lambda node, record: tag(node.name, record))

    def _candidates(self, program: ModelGraph) -> list[Candidate]:
        """What the chosen backend proposes, others' candidates among it; of further backends, their own single layers."""
        context, found = replace(self.context, priced=self.budgets is not None, proposals=proposals), list[Candidate]()
        for name in (self.backend, *self.among):
            proposed = context.propose(name, program)
            found += [each for each in proposed if name not in self.among or each.backend == name]
        return found

    def _best(self, program: ModelGraph, candidates: list[Candidate], budgets: Budgets) -> tuple[ModelGraph, list[Candidate]]:
        """The candidates of the optimal plan, and the graph with releases that show no more than the plan.

        Raises `CompileError` if that leaves nothing for the server."""
        problem = problem_within(program, self.context.machine, budgets, candidates, self.calls)
        found = optimise(problem, budgets, pins_of(self.pins))
        if not found.server:
            raise CompileError(
                Diagnostic(
                    f"the {BEST[self.context.machine.goal]} plan runs every layer at the client",
                    help="limit what the client holds (--client-weights-mib) or does (--client-seconds), or pin layers",
                )
            )
        layers = [each for each in candidates if not each.whole and found.backends.get(each.nodes[-1]) == each.backend]
        kept = [each for each in candidates if each.nodes in found.chains] + layers
        return narrow_releases(program, lambda release: _narrowed(program, release, found)), kept

    def summary(self, before: ModelGraph, after: ModelGraph) -> str:
        regions = [info(node).region or "" for node in after.nodes if info(node).domain == "server_encrypted"]
        return f"{len(regions)} nodes to the server in {len(set(regions))} requests"
