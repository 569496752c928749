"""What matters is encrypted, the rest is shown: channels or tiles of inner values, rounded, within a budget.

No cryptographic guarantee.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from hecompile.errors import CompileError, Diagnostic, InternalError
from hecompile.ir.channels import REVEAL_BITS
from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.ops import RELEASE
from hecompile.ir.printing import print_node
from hecompile.ir.releases import Release, read_release
from hecompile.panels import Panel
from hecompile.policies.options import MinDistortionOptions
from hecompile.policies.strict import Strict

if TYPE_CHECKING:
    from torch import fx

__all__ = ["MinDistortion", "from_latent"]


def from_latent(graph: ModelGraph) -> dict[str, bool]:
    """Whether a value depends on the latent, by node name; the others are the prompt's, the label's or public."""
    depends: dict[str, bool] = {}
    for node in graph.nodes:
        depends[node.name] = node.name == "sample" or any(depends[argument.name] for argument in node.all_input_nodes)
    return depends


@dataclass(frozen=True)
class MinDistortion(Strict):
    """Chen et al. (arXiv 2403.05794) within the UNet: of every value the least important part may be shown (DESIGN section 1).

    Never without being declared: inputs (a latent in clear at two consecutive steps gives the noise prediction there), outputs, and
    what derives from prompt or label alone.
    """

    name = "min-distortion"
    may_reveal = True
    options: ClassVar[type[Panel]] = MinDistortionOptions
    budget: float = 0.0  # most of a value's distortion that what is shown of it may have, in [0, 1)
    declared: tuple[str, ...] = ()

    def configured(self, panel: Panel) -> MinDistortion:
        if not isinstance(panel, MinDistortionOptions):
            raise InternalError(f"policy '{self.name}' is configured by options of something else")
        if panel.budget is None and self.needs_encryption:
            raise CompileError(Diagnostic(f"policy '{self.name}' needs a budget", help="give --budget from 0 to below 1"))
        return replace(self, budget=panel.budget or 0.0, declared=panel.declare)

    def guards(self, graph: ModelGraph, name: str) -> bool:
        """Whether a value is shown only if it is declared."""
        protected = {spec.name for spec in graph.inputs} | set(graph.outputs)
        return name in protected - set(self.declared)

    def check_graph(self, graph: ModelGraph) -> list[Diagnostic]:
        clear = [node for node in graph.nodes if info(node).domain == "server_clear"]
        findings, latent = list[Diagnostic](), from_latent(graph)
        shown: dict[fx.Node, dict[int, Release]] = {}  # of every value by channels, by tiles
        for node in clear:
            if str(node.target) != RELEASE:
                findings.append(_finding(node, f"%{node.name} would reach the server in clear, undeclared"))
                continue
            value, release = node.all_input_nodes[0], read_release(graph, node)
            if reason := self._reason(graph, value, release.bits, latent):
                findings.append(_finding(node, reason))
            kinds = shown.setdefault(value, {})
            earlier = kinds.get(release.encrypted.ndim, release)  # what several releases show of a value counts together
            if earlier.encrypted.shape != release.encrypted.shape:
                findings.append(_finding(node, f"%{value.name} is cut into tiles in two ways: what they show does not add up"))
                continue
            kinds[release.encrypted.ndim] = replace(release, encrypted=release.encrypted & earlier.encrypted)
        findings += [_finding(value, reason) for value, each in shown.items() if (reason := _excess([*each.values()], self.budget))]
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


def _excess(shown: Sequence[Release], budget: float) -> str:
    """Why a value's channels and tiles together show too much; empty if they do not. Shares add up to the union's, or more."""
    name = shown[0].value
    if not all(each.encrypted.any() for each in shown):
        return f"all of %{name} would be revealed: at least one channel or tile must stay encrypted"
    share = sum(float(each.shares[~each.encrypted].sum()) for each in shown)
    if share > budget * (1 + 1e-6):  # the shares are float32
        return f"%{name}: what is shown over all steps has {share:.3f} of its distortion, the budget is {budget:g}"
    return ""


def _finding(node: fx.Node, message: str) -> Diagnostic:
    return Diagnostic(
        message,
        source=info(node).source,
        line=print_node(node),
        help="encrypt it, lower --budget, or declare the reveal with --declare",
    )
