"""What matters is encrypted, the rest is shown: channels of inner values, rounded, within a budget. No cryptographic guarantee."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hecompile.errors import Diagnostic
from hecompile.ir.channels import REVEAL_BITS
from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.ops import RELEASE
from hecompile.ir.printing import print_node
from hecompile.ir.releases import Release, read_release
from hecompile.policies.strict import Strict

if TYPE_CHECKING:
    from torch import fx

    from hecompile.options import CompileOptions

__all__ = ["MinDistortion", "from_latent"]


def from_latent(graph: ModelGraph) -> dict[str, bool]:
    """Whether a value depends on the latent, by node name; the others are the prompt's, the label's or public."""
    depends: dict[str, bool] = {}
    for node in graph.nodes:
        depends[node.name] = node.name == "sample" or any(depends[argument.name] for argument in node.all_input_nodes)
    return depends


@dataclass(frozen=True)
class MinDistortion(Strict):
    """Chen et al. (arXiv 2403.05794) within the UNet: of every value the least important channels may be shown (DESIGN section 1).

    Never without being declared: inputs (a latent in clear at two consecutive steps gives the noise prediction there), outputs, and
    what derives from prompt or label alone.
    """

    name = "min-distortion"
    may_reveal = True
    budget: float = 0.0  # most of a value's distortion that its shown channels may have, in [0, 1)
    declared: tuple[str, ...] = ()

    def configured(self, options: CompileOptions) -> MinDistortion:
        return replace(self, budget=options.budget or 0.0, declared=options.declare)

    def guards(self, graph: ModelGraph, name: str) -> bool:
        """Whether a value is shown only if it is declared."""
        protected = {spec.name for spec in graph.inputs} | set(graph.outputs)
        return name in protected - set(self.declared)

    def check_graph(self, graph: ModelGraph) -> list[Diagnostic]:
        clear = [node for node in graph.nodes if info(node).domain == "server_clear"]
        findings, latent = list[Diagnostic](), from_latent(graph)
        shown: dict[fx.Node, Release] = {}
        for node in clear:
            if str(node.target) != RELEASE:
                findings.append(_finding(node, f"%{node.name} would reach the server in clear, undeclared"))
                continue
            value, release = node.all_input_nodes[0], read_release(graph, node)
            if reason := self._reason(graph, value, release.bits, latent):
                findings.append(_finding(node, reason))
            earlier = shown.get(value, release)  # what several releases show of a value counts together
            shown[value] = replace(release, encrypted=release.encrypted & earlier.encrypted)
        findings += [_finding(value, reason) for value, each in shown.items() if (reason := _excess(each, self.budget))]
        return findings

    def _reason(self, graph: ModelGraph, value: fx.Node, bits: int, latent: dict[str, bool]) -> str:
        if self.guards(graph, value.name):
            what = "the noise prediction" if value.name in graph.outputs else "an input, from which the noise prediction follows,"
            return f"%{value.name}, {what} would be revealed undeclared"
        if not latent[value.name] and value.name not in self.declared:
            return f"%{value.name} derives from the prompt or label alone and would be revealed undeclared"
        if bits > REVEAL_BITS[1]:
            return f"%{value.name} would be revealed at full precision: {bits} bits, at most {REVEAL_BITS[1]} are allowed"
        return ""


def _excess(release: Release, budget: float) -> str:
    """Why this shows too much; empty if it does not."""
    if not release.encrypted.any():
        return f"all of %{release.value} would be revealed: at least one channel must stay encrypted"
    share = float(release.shares[~release.encrypted].sum())
    if share > budget * (1 + 1e-6):  # the shares are float32
        return f"%{release.value}: the channels shown over all steps have {share:.3f} of its distortion, the budget is {budget:g}"
    return ""


def _finding(node: fx.Node, message: str) -> Diagnostic:
    return Diagnostic(
        message,
        source=info(node).source,
        line=print_node(node),
        help="encrypt it, lower --budget, or declare the reveal with --declare",
    )
