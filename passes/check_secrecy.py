"""The pass that checks the promise of the policy on the partitioned graph."""

from __future__ import annotations

from dataclasses import dataclass

from hecompile.backends.registry import backend
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.printing import print_node
from hecompile.ir.taint import taint
from hecompile.passes.base import Pass
from hecompile.policies import Policy

__all__ = ["CheckSecrecy"]


def _encrypts(name: str | None) -> bool:
    return name is not None and backend(name).guarantee.encrypts


@dataclass(frozen=True)
class CheckSecrecy(Pass[ModelGraph, ModelGraph]):
    """Refuse a graph in which the server would see what the policy hides. Changes nothing.

    %eps = conv2d(%h)  # secret, server_encrypted  ->  fine
    %n = add(%eps, 1)  # secret, server_clear      ->  error: %eps would reach the server in the clear
    %m = mul(%eps, 2)  # marked public             ->  error: the mark is wrong
    """

    policy: Policy

    def run(self, program: ModelGraph) -> ModelGraph:
        policy = self.policy
        # the marks are not trusted: which values are secret is computed again
        secret = taint(program, frozenset(spec.name for spec in program.inputs if policy.is_public(spec)))
        findings = []
        for node in program.nodes:
            record = info(node)
            if secret[node.name] and not record.secret:
                findings.append(self._finding(node, "is marked public but derives from a secret"))
            if record.domain not in ("client", "server_encrypted", "server_clear"):
                findings.append(self._finding(node, f"has the unknown domain {record.domain!r}"))
            if record.domain == "server_encrypted" and policy.needs_encryption and not _encrypts(record.backend):
                findings.append(self._finding(node, f"would run under '{record.backend}', which does not encrypt"))
        findings += policy.check_graph(program)
        if findings:
            raise CompileError(findings)
        return program

    def _finding(self, node: object, what: str) -> Diagnostic:
        from torch import fx

        if not isinstance(node, fx.Node):
            raise TypeError(type(node))
        return Diagnostic(f"%{node.name} {what}", source=info(node).source, line=print_node(node))

    def summary(self, before: ModelGraph, after: ModelGraph) -> str:
        return f"policy '{self.policy.name}' holds"
