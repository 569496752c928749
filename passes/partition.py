"""The pass that decides which nodes run at the server, under which backend and in which request."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter

from hecompile.backends.context import Context
from hecompile.backends.registry import proposals
from hecompile.errors import CompileError, Diagnostic, InternalError
from hecompile.ir.candidates import Candidate
from hecompile.ir.graph import ModelGraph, NodeInfo, info
from hecompile.ir.layers import secret_shapes
from hecompile.ir.ops import REVEAL
from hecompile.ir.reveals import Reveal, narrow_reveals
from hecompile.ir.runs import constant_in_a_run
from hecompile.passes.base import Pass
from hecompile.planner.optimise import Budgets, OptimalPlan, optimise
from hecompile.planner.problem import Run
from hecompile.planner.proposals import pins_of, problem_within

__all__ = ["Partition"]

BEST = {"latency": "fastest", "client-cpu": "client's cheapest", "server-cpu": "server's cheapest", "bytes": "smallest"}  # by goal


def greedy_cover(candidates: list[Candidate]) -> dict[str, int]:
    """Choose every candidate that shares no node with an earlier one. Returns the number of its candidate for each covered node."""
    cover: dict[str, int] = {}
    for number, candidate in enumerate(candidates):
        if not any(node in cover for node in candidate.nodes):
            cover.update(dict.fromkeys(candidate.nodes, number))
    return cover


def _levels(graph: ModelGraph, cover: dict[str, int]) -> dict[str, int]:
    """Return the level of every node by name, as low as possible: how many requests come before its value is known.

    A candidate is one level above the highest value that it reads. A client node has the level of the highest value that it reads.
    """

    def unit(name: str) -> str | int:
        return cover.get(name, name)

    reads: dict[str | int, set[str | int]] = {}
    for node in graph.nodes:
        reads.setdefault(unit(node.name), set()).update(unit(argument.name) for argument in node.all_input_nodes)
    level: dict[str | int, int] = {}
    try:
        for piece in TopologicalSorter({key: read - {key} for key, read in reads.items()}).static_order():
            level[piece] = max((level[read] for read in reads[piece] - {piece}), default=0) + isinstance(piece, int)
    except CycleError as error:
        raise InternalError(f"a path leaves a candidate and returns: {error.args[1]}") from error
    return {node.name: level[unit(node.name)] for node in graph.nodes}


def _places(candidates: list[Candidate], cover: dict[str, int], level: dict[str, int]) -> dict[int, int]:
    """For each chosen candidate, its index among those of the same backend and level that need a request of their own."""
    indices, next_index = dict[int, int](), dict[tuple[int, str], int]()
    for name, number in cover.items():
        if number in indices:
            continue
        key = (level[name], candidates[number].backend)
        indices[number] = next_index.get(key, 0)
        next_index[key] = indices[number] + candidates[number].own_request
    return indices


def _narrowed(program: ModelGraph, reveal: Reveal, plan: OptimalPlan) -> Reveal:
    """Return the reveal with as much encrypted as any layer of the plan that reads the value asks for, and no less than before."""
    readers = [shape.nodes[-1] for shape in secret_shapes(program) if shape.input == reveal.value]
    share = max((plan.encrypted[name] for name in readers if name in plan.encrypted), default=1.0)
    count = max(int(reveal.encrypted.sum()), round(share * reveal.encrypted.size))
    return reveal if count == reveal.encrypted.sum() else reveal.with_encrypted(count)


@dataclass(frozen=True)
class Partition(Pass[ModelGraph, ModelGraph]):
    """Tag every node with its domain, region and backend: secret convs and linears to the server, all or the best choice.

    %y = conv2d(%x)   # secret  ->  server_encrypted, region call_03
    %z = silu(%y)     # secret  ->  client, region client_03
    %r = reveal(%x)   # secret  ->  server_clear, if a layer at the server reads it
    %t = sin(%time)   # public  ->  client
    """

    backend: str
    context: Context = field(default_factory=Context)
    budgets: Budgets | None = None  # None: take every candidate; otherwise the plan within them that is best for the machine's goal
    pins: tuple[str, ...] = ()  # `layer=side`, for layers whose side the user decided
    among: tuple[str, ...] = ()  # further backends that the best plan may use
    calls: Run = field(default_factory=Run)  # how many calls of the model are one sampling run, for the best plan

    def run(self, program: ModelGraph) -> ModelGraph:
        candidates = self._candidates(program)
        if self.budgets is not None:
            program, candidates = self._best(program, candidates, self.budgets)
        cover = greedy_cover(candidates)
        level, constant = _levels(program, cover), constant_in_a_run(program)
        places = _places(candidates, cover, level)

        revealed = {
            node.name for node in program.nodes if str(node.target) == REVEAL and any(user.name in cover for user in node.users)
        }

        def tag(name: str, record: NodeInfo) -> NodeInfo:
            if name in revealed:
                return replace(record, domain="server_clear", region=None, backend=None, per_run=False)
            if name not in cover:
                return replace(record, domain="client", region=f"client_{level[name]:02d}", backend=None, per_run=False)
            candidate = candidates[cover[name]]
            per_run, backend = all(constant[node] for node in candidate.nodes), candidate.backend
            region = f"{'per_run' if per_run else 'call'}_{level[name]:02d}"
            region += f"_{backend}" if candidate.whole or backend in self.among else ""
            region += f"_{places[cover[name]]}" if places[cover[name]] else ""
            whole = candidate.whole
            return replace(record, domain="server_encrypted", region=region, backend=backend, per_run=per_run, whole=whole)

        return program.with_infos(lambda node, record: tag(node.name, record))

    def _candidates(self, program: ModelGraph) -> list[Candidate]:
        """Return all candidates that the main backend proposes, which may be of other backends, and the further backends' own
        ones."""
        context, candidates = replace(self.context, priced=self.budgets is not None, proposals=proposals), list[Candidate]()
        for name in (self.backend, *self.among):
            proposed = context.propose(name, program)
            candidates += [candidate for candidate in proposed if name not in self.among or candidate.backend == name]
        return candidates

    def _best(self, program: ModelGraph, candidates: list[Candidate], budgets: Budgets) -> tuple[ModelGraph, list[Candidate]]:
        """Return the graph with its reveals narrowed to those of the optimal plan, and the plan's candidates.

        Raises:
            CompileError: if no plan keeps the budgets, or the best plan has nothing for the server.
        """
        problem = problem_within(program, self.context.machine, budgets, candidates, self.calls)
        plan = optimise(problem, budgets, pins_of(self.pins))
        if not plan.server:
            raise CompileError(
                Diagnostic(
                    f"the {BEST[self.context.machine.goal]} plan runs every layer at the client",
                    help="limit what the client holds (--client-weights-mib) or does (--client-seconds), or pin layers",
                )
            )
        layers = [one for one in candidates if not one.whole and plan.backends.get(one.nodes[-1]) == one.backend]
        kept = [candidate for candidate in candidates if candidate.nodes in plan.multi_layer_regions] + layers
        return narrow_reveals(program, lambda reveal: _narrowed(program, reveal, plan)), kept

    def summary(self, before: ModelGraph, after: ModelGraph) -> str:
        regions = [info(node).region or "" for node in after.nodes if info(node).domain == "server_encrypted"]
        return f"{len(regions)} nodes to the server in {len(set(regions))} requests"
