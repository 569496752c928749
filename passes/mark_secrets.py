"""The pass that marks values as secret or public."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.taint import taint
from hecompile.passes.base import Pass
from hecompile.policies import policy

__all__ = ["MarkSecrets"]


@dataclass(frozen=True)
class MarkSecrets(Pass[ModelGraph, ModelGraph]):
    """Mark every value that derives from a secret input.

    %sample : ?              ->  secret (not declared public)
    %timestep : ?            ->  public
    %y = add(%sample, %temb) ->  secret, as one argument is
    """

    policy: str

    def run(self, program: ModelGraph) -> ModelGraph:
        promise = policy(self.policy)
        public = frozenset(spec.name for spec in program.inputs if promise.is_public(spec))
        secret = taint(program, public)
        return program.with_infos(lambda node, record: replace(record, secret=secret[node.name]))

    def summary(self, before: ModelGraph, after: ModelGraph) -> str:
        marks = [bool(info(node).secret) for node in after.nodes]
        return f"{sum(marks)} of {len(marks)} values are secret"
