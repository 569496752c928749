"""Which node runs where, and in which round."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hecompile.backends.base import Candidate
from hecompile.backends.registry import backend
from hecompile.cost.machine import Machine
from hecompile.cost.optimise import Budgets, optimise, problem_of
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.graph import ModelGraph, NodeInfo, info
from hecompile.passes.base import Pass

__all__ = ["Partition"]


def greedy_cover(candidates: list[Candidate]) -> dict[str, int]:
    """Node name -> number of the candidate that covers it: every candidate that overlaps no earlier one."""
    cover: dict[str, int] = {}
    for number, candidate in enumerate(candidates):
        if not any(node in cover for node in candidate.nodes):
            cover.update(dict.fromkeys(candidate.nodes, number))
    return cover


def _levels(graph: ModelGraph, cover: dict[str, int]) -> dict[str, int]:
    """As early as possible: a server node is one level above its arguments, a client node on the highest of its arguments."""
    level: dict[str, int] = {}
    for node in graph.nodes:
        below = max((level[argument.name] for argument in node.all_input_nodes), default=0)
        inner = any(cover.get(argument.name) == cover.get(node.name) for argument in node.all_input_nodes)
        level[node.name] = below + (node.name in cover and not inner)
    return level


def _within_run(graph: ModelGraph) -> dict[str, bool]:
    """Whether a value is the same at every step of a run: it derives from constants and conditions only."""
    constant: dict[str, bool] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            constant[node.name] = node.name not in ("sample", "timestep")
        else:
            constant[node.name] = all(constant[argument.name] for argument in node.all_input_nodes)
    return constant


@dataclass(frozen=True)
class Partition(Pass[ModelGraph, ModelGraph]):
    """Tag every node with its domain and region: secret convs and linears to the server, all or the fastest choice.

    %y = conv2d(%x)   # secret  ->  server_encrypted, region call_03
    %z = silu(%y)     # secret  ->  client, region client_03
    %t = sin(%time)   # public  ->  client
    """

    backend: str
    machine: Machine = field(default_factory=Machine)
    budgets: Budgets | None = None  # None: every candidate that fits; else the fastest plan within them
    pins: tuple[str, ...] = ()

    def run(self, program: ModelGraph) -> ModelGraph:
        candidates = backend(self.backend).candidates(program, self.machine)
        if self.budgets is not None:
            candidates = self._fastest(program, candidates, self.budgets)
        cover = greedy_cover(candidates)
        level, constant = _levels(program, cover), _within_run(program)

        def tag(name: str, record: NodeInfo) -> NodeInfo:
            if name not in cover:
                return replace(record, domain="client", region=f"client_{level[name]:02d}")
            kind = "once" if constant[name] else "call"
            return replace(record, domain="server_encrypted", region=f"{kind}_{level[name]:02d}")

        return program.with_infos(lambda node, record: tag(node.name, record))

    def _fastest(self, program: ModelGraph, candidates: list[Candidate], budgets: Budgets) -> list[Candidate]:
        """The candidates of the optimal plan. Raises `CompileError` if that leaves nothing for the server."""
        pins = dict(pin.rsplit("=", 1) for pin in self.pins)
        chosen = optimise(problem_of(program, self.machine), budgets, pins).server
        if not chosen:
            raise CompileError(
                Diagnostic(
                    "the fastest plan runs every layer at the client",
                    help="limit what the client holds (--client-weights-mib) or does (--client-seconds), or pin layers",
                )
            )
        return [candidate for candidate in candidates if candidate.nodes[-1] in chosen]

    def summary(self, before: ModelGraph, after: ModelGraph) -> str:
        regions = [info(node).region or "" for node in after.nodes if info(node).domain == "server_encrypted"]
        return f"{len(regions)} nodes to the server in {len(set(regions))} requests"
