"""Taint: which values derive from a secret input."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hecompile.ir.graph import ModelGraph, info
from hecompile.passes.base import Pass
from hecompile.policies import policy

__all__ = ["MarkSecrets", "taint"]


def taint(graph: ModelGraph, public: frozenset[str]) -> dict[str, bool]:
    """Secret or not, by node name: an input is secret unless it is in `public`, a value is if one of its arguments is."""
    secret: dict[str, bool] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            secret[node.name] = node.name not in public
        else:
            read = node.all_input_nodes
            if str(node.target) == "aten.expand_as.default":
                read = read[:1]  # the second argument lends its shape only, which is public
            secret[node.name] = any(secret[argument.name] for argument in read)
    return secret


@dataclass(frozen=True)
class MarkSecrets(Pass[ModelGraph, ModelGraph]):
    """Mark every value that derives from a secret input.

    %sample : ?              ->  secret (not declared public)
    %timestep : ?            ->  public
    %y = add(%sample, %temb) ->  secret, as one argument is
    """

    policy: str

    def run(self, program: ModelGraph) -> ModelGraph:
        chosen = policy(self.policy)
        public = frozenset(spec.name for spec in program.inputs if chosen.is_public(spec))
        secret = taint(program, public)
        return program.with_infos(lambda node, record: replace(record, secret=secret[node.name]))

    def summary(self, before: ModelGraph, after: ModelGraph) -> str:
        marks = [bool(info(node).secret) for node in after.nodes]
        return f"{sum(marks)} of {len(marks)} values are secret"
