"""The policy under which important parts of inner values are encrypted and the others revealed, within a budget.

The parts are channels or tiles, and revealed entries are rounded. They have no cryptographic guarantee.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from hecompile.errors import CompileError, Diagnostic, InternalError
from hecompile.ir.channels import REVEAL_BITS
from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.ops import REVEAL
from hecompile.ir.printing import print_node
from hecompile.ir.reveals import Reveal, read_reveal
from hecompile.panels import Panel
from hecompile.policies.options import MinDistortionOptions
from hecompile.policies.strict import Strict

if TYPE_CHECKING:
    from torch import fx

__all__ = ["MinDistortion", "from_latent"]


def from_latent(graph: ModelGraph) -> dict[str, bool]:
    """For every node by name, whether it depends on the latent. All others derive from prompt, label and public values alone."""
    depends: dict[str, bool] = {}
    for node in graph.nodes:
        depends[node.name] = node.name == "sample" or any(depends[argument.name] for argument in node.all_input_nodes)
    return depends


@dataclass(frozen=True)
class MinDistortion(Strict):
    """Chen et al. (arXiv 2403.05794) within the UNet: of every value the least important part may be revealed.

    Three things are revealed only if the user declares them: inputs (a latent that is revealed at two consecutive steps gives the
    noise prediction there), outputs, and what derives from prompt or label alone.
    """

    name = "min-distortion"
    may_reveal = True
    options: ClassVar[type[Panel]] = MinDistortionOptions
    budget: float = 0.0  # the largest share of a value's distortion that its revealed part may have, in [0, 1)
    declared: tuple[str, ...] = ()  # values that the user allows to be revealed although they are guarded

    def configured(self, panel: Panel) -> MinDistortion:
        if not isinstance(panel, MinDistortionOptions):
            raise InternalError(f"policy '{self.name}' got the options of another policy")
        if panel.budget is None and self.needs_encryption:
            raise CompileError(Diagnostic(f"policy '{self.name}' needs a budget", help="give --budget from 0 to below 1"))
        return replace(self, budget=panel.budget or 0.0, declared=panel.declare)

    def guards(self, graph: ModelGraph, name: str) -> bool:
        """True if this value must not be revealed: it is an input or output of the model, and the user did not declare it."""
        protected = {spec.name for spec in graph.inputs} | set(graph.outputs)
        return name in protected - set(self.declared)

    def check_graph(self, graph: ModelGraph) -> list[Diagnostic]:
        clear = [node for node in graph.nodes if info(node).domain == "server_clear"]
        findings, latent = list[Diagnostic](), from_latent(graph)
        revealed: dict[fx.Node, dict[int, Reveal]] = {}  # for every value one reveal by channels (1) and one by tiles (2)
        for node in clear:
            if str(node.target) != REVEAL:
                findings.append(_finding(node, f"%{node.name} would reach the server in the clear, undeclared"))
                continue
            value, reveal = node.all_input_nodes[0], read_reveal(graph, node)
            if reason := self._reason(graph, value, reveal.bits, latent):
                findings.append(_finding(node, reason))
            kinds = revealed.setdefault(value, {})
            earlier = kinds.get(reveal.encrypted.ndim, reveal)  # several reveals of one value count together
            if earlier.encrypted.shape != reveal.encrypted.shape:
                findings.append(_finding(node, f"%{value.name} is cut into tiles in two ways: what they reveal does not add up"))
                continue
            kinds[reveal.encrypted.ndim] = replace(reveal, encrypted=reveal.encrypted & earlier.encrypted)
        for value, kinds in revealed.items():
            if reason := _excess([*kinds.values()], self.budget):
                findings.append(_finding(value, reason))
        return findings

    def _reason(self, graph: ModelGraph, value: fx.Node, bits: int, latent: dict[str, bool]) -> str:
        """Return why this value must not be revealed with so many bits; empty if it may be."""
        if self.guards(graph, value.name):
            what = "the noise prediction" if value.name in graph.outputs else "an input, from which the noise prediction follows,"
            return f"%{value.name}, {what} would be revealed undeclared"
        if not latent[value.name] and value.name not in self.declared:
            return f"%{value.name} derives from the prompt or label alone and would be revealed undeclared"
        if bits > REVEAL_BITS[1]:
            return f"%{value.name} would be revealed at full precision: {bits} bits, at most {REVEAL_BITS[1]} are allowed"
        return ""


def _excess(reveals: Sequence[Reveal], budget: float) -> str:
    """Return why the reveals of one value are too much together; empty if they are not.

    The shares of channels and tiles are added up, which is at least the share of their union.
    """
    name = reveals[0].value
    if not all(reveal.encrypted.any() for reveal in reveals):
        return f"all of %{name} would be revealed: at least one channel or tile must stay encrypted"
    share = sum(float(reveal.shares[~reveal.encrypted].sum()) for reveal in reveals)
    if share > budget * (1 + 1e-6):  # the shares are float32
        return f"%{name}: what is revealed over all steps has {share:.3f} of its distortion, the budget is {budget:g}"
    return ""


def _finding(node: fx.Node, message: str) -> Diagnostic:
    return Diagnostic(
        message,
        source=info(node).source,
        line=print_node(node),
        help="encrypt it, lower --budget, or declare the reveal with --declare",
    )
