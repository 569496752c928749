"""The default policy: the server receives nothing but ciphertexts and public values."""

from __future__ import annotations

from hecompile.errors import Diagnostic
from hecompile.ir.graph import InputSpec, ModelGraph, info
from hecompile.ir.printing import print_node
from hecompile.policies.base import Policy

__all__ = ["Strict"]


class Strict(Policy):
    """Secret values reach the server as ciphertexts alone. Nothing is revealed."""

    name = "strict"
    needs_encryption = True

    def is_public(self, spec: InputSpec) -> bool:
        return spec.public

    def check_graph(self, graph: ModelGraph) -> list[Diagnostic]:
        findings = []
        for node in graph.nodes:
            record = info(node)
            secrets = [arg.name for arg in node.all_input_nodes if info(arg).secret]
            if record.domain == "server_clear" and (secrets or record.secret):
                names = ", ".join(f"%{name}" for name in secrets) or f"%{node.name}"
                findings.append(
                    Diagnostic(
                        f"{names} would reach the server in the clear",
                        source=record.source,
                        line=print_node(node),
                        help="keep the node at the client or in an encrypted region; reveals need another policy",
                    )
                )
        return findings
