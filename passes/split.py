"""The pass that cuts the partitioned graph into regions, and makes the plan that runs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hecompile.errors import CompileError, Diagnostic, InternalError
from hecompile.ir.graph import InputSpec, ModelGraph, info, named_shape
from hecompile.ir.layers import group_layers, secret_layers
from hecompile.ir.plan import Plan, Step, Value
from hecompile.ir.regions import AnyCall, CallRegion, ClientRegion, Program, SubgraphRegion
from hecompile.ir.size import gmac
from hecompile.ir.subgraph import cut
from hecompile.passes.base import Pass
from hecompile.planner.modules import module_works

if TYPE_CHECKING:
    from torch import fx

__all__ = ["Split"]


@dataclass(frozen=True)
class Split(Pass[ModelGraph, Program]):
    """Cut the tagged graph into client regions, call regions of each backend and the plan over named values.

    %y = conv2d(%x)  # call_01    ->  call   call_01   (sample) -> (conv_in)
    %z = silu(%y)    # client_01  ->  client client_01 (conv_in) -> (silu)
    output(%z)                    ->  plan outputs: silu
    """

    @property
    def needs_weights(self) -> bool:
        """True, because the linear operations of its regions hold the weights."""
        return True

    def run(self, program: ModelGraph) -> Program:
        layers = {layer.nodes[-1]: layer for layer in secret_layers(program)}
        regions: dict[str, list[fx.Node]] = {}
        for node in program.nodes:
            if node.op == "call_function" and info(node).domain != "server_clear":
                regions.setdefault(str(info(node).region), []).append(node)
        clients: dict[str, ClientRegion] = {}
        calls: dict[str, AnyCall] = {}
        for name, nodes in regions.items():
            backend, per_run = info(nodes[0]).backend, info(nodes[0]).per_run
            if backend is None:
                clients[name] = ClientRegion(name, *cut(program, nodes))
            elif not info(nodes[0]).whole:
                linear_ops = group_layers([layers[node.name].linear_op for node in nodes if node.name in layers])
                calls[name] = CallRegion(name, backend, linear_ops, per_run)
            else:
                calls[name] = SubgraphRegion(name, backend, *cut(program, nodes), per_run)
        if not calls:
            raise CompileError(
                Diagnostic(
                    f"{program.name} has nothing to encrypt: no convolution or linear layer of secret data goes to the server",
                    help="compile the network itself, or declare fewer inputs public",
                )
            )
        plan, config = _plan(program, clients, calls), dict(program.config)
        return Program(
            plan, program.inputs, clients, calls, program.name, config, program.approximation, program.signature, program.examples,
            gmac(program), module_works(program, [step.region for step in plan.steps]),
        )  # fmt: skip

    def summary(self, before: ModelGraph, after: Program) -> str:
        return f"{len(after.clients)} client regions, {len(after.calls)} calls, {after.plan.rounds} rounds a step"


def _order(graph: ModelGraph, clients: dict[str, ClientRegion], calls: dict[str, AnyCall]) -> list[Step]:
    """Return the steps in an order that computes every value before it is read. Of the steps that can run, client regions go
    first."""
    steps = [Step("client", name, region.inputs, region.outputs) for name, region in sorted(clients.items())]
    steps += [Step("call", name, region.inputs, region.outputs, region.per_run) for name, region in sorted(calls.items())]
    known, ordered = {spec.name for spec in graph.inputs}, list[Step]()
    while steps:
        ready = next((step for step in steps if known.issuperset(step.inputs)), None)
        if ready is None:
            raise InternalError(f"regions wait for each other: {[step.region for step in steps]}")
        steps.remove(ready)
        ordered.append(ready)
        known.update(ready.outputs)
    return ordered


def _plan(graph: ModelGraph, clients: dict[str, ClientRegion], calls: dict[str, AnyCall]) -> Plan:
    steps = _order(graph, clients, calls)
    names = [spec.name for spec in graph.inputs] + [name for step in steps for name in step.outputs]
    by_name = {node.name: node for node in graph.nodes}
    values = tuple(_value(by_name[name], graph.inputs) for name in names)
    return Plan(tuple(spec.name for spec in graph.inputs), graph.outputs, tuple(steps), values)


def _value(node: fx.Node, inputs: Sequence[InputSpec]) -> Value:
    record = info(node)
    return Value(node.name, named_shape(record.shape), record.dtype, bool(record.secret))
