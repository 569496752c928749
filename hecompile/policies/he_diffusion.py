"""The policy of the HE-Diffusion paper (Chen et al., arXiv 2403.05794): the server runs the sampler's step on partly encrypted
latents, and the UNet stays at the client."""

from __future__ import annotations

from hecompile.errors import Diagnostic
from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.printing import print_node
from hecompile.policies.strict import Strict

__all__ = ["HeDiffusion"]


class HeDiffusion(Strict):
    """The client runs the UNet. Of the latent x and the noise prediction e, the server sees the entries that the mask does not
    encrypt, rounded.

    Revealed entries have no cryptographic guarantee: the policy assumes an honest server.
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
