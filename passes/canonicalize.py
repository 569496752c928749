"""The pass that writes every operation in one spelling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.canonical.rules import RULES, keep
from hecompile.ir.builder import Builder, Origin
from hecompile.ir.graph import InputSpec, ModelGraph, info
from hecompile.ir.layers import constant_of
from hecompile.ir.ops import OPS
from hecompile.ir.printing import print_node
from hecompile.ir.shapes import map_argument
from hecompile.passes.base import Pass

if TYPE_CHECKING:
    from torch import fx

__all__ = ["Canonicalize"]

_REWRITE = "rewrite it with operations of docs/ops.md, or run this part outside the compiled model"


@dataclass(frozen=True)
class Canonicalize(Pass[ModelGraph, ModelGraph]):
    """Write each operation in one spelling, fold constants, share equal nodes and drop what does nothing.

    %a = view(%x, [2, 32, 64]); %b = clone(%a)  ->  %b = reshape(%x, [-1, 32, 64])
    %s = sigmoid(%x); %y = mul(%x, %s)          ->  %y = silu(%x)
    %m = addmm(%b, %x, transpose(%w))           ->  %m = linear(%x, %w, %b)
    """

    def run(self, program: ModelGraph) -> ModelGraph:
        builder, findings = Builder(), list[Diagnostic]()
        values: dict[fx.Node, fx.Node] = {}
        for node, spec in zip(program.placeholders, program.inputs, strict=True):
            values[node] = builder.input(spec)
        for node in program.nodes:
            if node in values:
                continue
            record = info(node)
            builder.origin = Origin(record.path, record.source)
            if node.op == "get_attr":
                values[node] = builder.constant(constant_of(program, node), str(node.target))
                continue
            args = [map_argument(arg, lambda leaf: values.get(leaf, leaf)) for arg in node.args]  # type: ignore[call-overload]
            name = str(node.target)
            if name not in RULES and name not in OPS:
                constant = builder.folded(name, args, dict(node.kwargs))
                if constant is not None:
                    values[node] = constant
                    continue
                findings.append(_pointed(node, Diagnostic(f"{name} is not supported", help=_REWRITE)))
                values[node] = _stand_in(builder, node)
                continue
            try:
                values[node] = (RULES.get(name) or keep(name))(builder, *args, **node.kwargs)
            except CompileError as error:
                findings.extend(_pointed(node, finding) for finding in error.diagnostics)
                values[node] = _stand_in(builder, node)
        if findings:
            raise CompileError(findings)
        by_name = {node.name: node for node in program.nodes}
        outputs = [values[by_name[name]] for name in program.outputs]
        _check_outputs(program, outputs)
        graph = builder.finish(outputs, program.name, dict(program.config))
        return graph.described_as(program)

    def summary(self, before: ModelGraph, after: ModelGraph) -> str:
        return f"{len(before.nodes)} nodes -> {len(after.nodes)}"


def _check_outputs(program: ModelGraph, outputs: Sequence[fx.Node]) -> None:
    """Raise `CompileError` if a result is a constant, or if all results are unchanged inputs."""
    constant = [name for name, node in zip(program.outputs, outputs, strict=True) if node.op == "get_attr"]
    if constant:
        raise CompileError(Diagnostic(f"result %{constant[0]} is a constant tensor", help="leave it out of what the model returns"))
    if all(node.op == "placeholder" for node in outputs):
        raise CompileError(f"output %{outputs[0].name} is an input, unchanged: there is nothing to compile")


def _stand_in(builder: Builder, node: fx.Node) -> fx.Node:
    """Return a value of the same shape in place of a node that was refused, so that the nodes behind it are checked too."""
    record = info(node)
    return builder.input(InputSpec(f"{node.name}_", (node.name,), record.shape, record.dtype))


def _pointed(node: fx.Node, finding: Diagnostic) -> Diagnostic:
    """Return the finding with the text of the node that it is about, and the node's operation underlined."""
    line = print_node(node)
    start = line.find("= ") + 2
    mark = (start, start + len(str(node.target).split(".")[1]))
    return replace(finding, source=info(node).source, line=line, underline=mark)
