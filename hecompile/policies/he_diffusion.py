"""The paper's own system (Chen et al., arXiv 2403.05794): the UNet at the client, the sampler's step on sparse ciphertexts."""

from __future__ import annotations

from hecompile.errors import Diagnostic
from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.printing import print_node
from hecompile.policies.strict import Strict

__all__ = ["HeDiffusion"]


class HeDiffusion(Strict):
    """Entries of x and e off the support are declared, rounded reveals of the sampler's region; the UNet never leaves the client.

    No cryptographic guarantee for what is revealed: it assumes an honest server.
    """

    name = "he-diffusion"
    may_reveal = True

    def check_graph(self, graph: ModelGraph) -> list[Diagnostic]:
        away = [node for node in graph.nodes if info(node).domain != "client"]
        if not away:
            return []
        return [
            Diagnostic(
                f"{len(away)} nodes of the UNet, %{away[0].name} first, would run at the server",
                source=info(away[0]).source,
                line=print_node(away[0]),
                help="under he-diffusion the client runs the UNet itself: compile only the sampler, with hecompile compile-sampler",
            )
        ]
