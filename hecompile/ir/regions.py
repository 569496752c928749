"""The program after the pass `split`: client regions, call regions, and the plan that runs them over named values.

A **region** is what one request answers (`CallRegion`, `SubgraphRegion`), or what the client computes between two requests
(`ClientRegion`). `Program.run` computes the program without encryption: client regions and subgraphs by torch, call regions by the
arithmetic of their linear operations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hecompile.errors import InternalError
from hecompile.ir.linear import Array
from hecompile.ir.linear_ops import LinearOp
from hecompile.ir.modules import ModuleWork
from hecompile.ir.plan import Plan
from hecompile.ir.signature import Keyword, Signature

if TYPE_CHECKING:
    from torch import fx

    from hecompile.ir.approximation import Approximation
    from hecompile.ir.graph import InputSpec
    from hecompile.ir.halves import ClientHalf, ServerHalf

__all__ = ["AnyCall", "CallRegion", "ClientRegion", "Lowered", "Program", "SubgraphRegion"]


@dataclass(frozen=True, eq=False)
class ClientRegion:
    """A piece of the graph that the client computes itself."""

    name: str
    graph_module: fx.GraphModule
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def reference(self, values: Sequence[Array]) -> list[Array]:
        """Return the outputs, computed by torch."""
        return _run(self.graph_module, values)


def _run(graph_module: fx.GraphModule, values: Sequence[Array]) -> list[Array]:
    import torch

    with torch.no_grad():
        results = graph_module(*(torch.from_numpy(np.asarray(value)) for value in values))
    return [result.numpy() for result in results]


@dataclass(frozen=True, eq=False)
class Lowered:
    """A region's two halves. `note` tells parameters and costs in the compiler's log; no file keeps it."""

    client: ClientHalf
    server: ServerHalf
    note: str = ""


@dataclass(frozen=True, eq=False)
class CallRegion:
    """Independent linear layers of one depth, which one request answers.

    `per_run` says that the inputs do not change within a sampling run, so that the request is sent once per run.
    """

    name: str
    backend: str
    linear_ops: tuple[LinearOp, ...]
    per_run: bool = False
    lowered: Lowered | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(linear_op.input for linear_op in self.linear_ops))

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(part.output for linear_op in self.linear_ops for part in linear_op.parts)

    def reference(self, values: Sequence[Array]) -> list[Array]:
        """Return the outputs, computed without encryption by the linear operations at their present stage."""
        by_name = dict(zip(self.inputs, values, strict=True))
        return [output for linear_op in self.linear_ops for output in linear_op.reference(by_name[linear_op.input])]

    def with_linear_ops(self, change: Callable[[LinearOp], LinearOp]) -> CallRegion:
        """Return the region with its linear operations changed; the region itself if `change` returned all of them unchanged."""
        linear_ops = tuple(change(linear_op) for linear_op in self.linear_ops)
        return (
            self
            if all(new is old for new, old in zip(linear_ops, self.linear_ops, strict=True))
            else replace(self, linear_ops=linear_ops)
        )


@dataclass(frozen=True, eq=False)
class SubgraphRegion:
    """A piece of the graph with several layers, which one request answers. `per_run` is as in `CallRegion`."""

    name: str
    backend: str
    graph_module: fx.GraphModule
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    per_run: bool = False
    lowered: Lowered | None = None

    def reference(self, values: Sequence[Array]) -> list[Array]:
        """Return the outputs, computed by torch."""
        return _run(self.graph_module, values)


AnyCall = CallRegion | SubgraphRegion


@dataclass(frozen=True, eq=False)
class Program:
    """The regions and the plan. It can be run after every pass."""

    plan: Plan
    inputs: tuple[InputSpec, ...]
    clients: Mapping[str, ClientRegion]
    calls: Mapping[str, AnyCall]
    name: str = "model"
    config: Mapping[str, object] = field(default_factory=dict)
    approximation: Approximation | None = None
    signature: Signature = field(default_factory=Signature)
    examples: Mapping[Keyword, Array] = field(default_factory=dict, repr=False)  # one call with a batch of two, where there is one
    gmac: float = 0.0  # multiply-adds of the linear layers at batch one, in 10^9
    modules: tuple[ModuleWork, ...] = ()  # in the order of the plan

    def __post_init__(self) -> None:
        for step in self.plan.steps:
            region = (self.clients if step.kind == "client" else self.calls).get(step.region)
            if region is None or (region.inputs, region.outputs) != (step.inputs, step.outputs):
                raise InternalError(f"plan: step '{step.region}' does not match its region")

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return all values of the plan by name, computed from the inputs by name. The outputs are among them."""
        values = dict(inputs)
        for step in self.plan.steps:
            region = self.clients[step.region] if step.kind == "client" else self.calls[step.region]
            results = region.reference([values[name] for name in step.inputs])
            values.update(zip(step.outputs, results, strict=True))
        return values

    @property
    def linear_ops(self) -> list[LinearOp]:
        """The linear operations of all call regions."""
        return [linear_op for region in self.calls.values() if isinstance(region, CallRegion) for linear_op in region.linear_ops]

    def with_calls(self, change: Callable[[AnyCall], AnyCall]) -> Program:
        """Return the program with its call regions changed; the program itself if `change` returned all of them unchanged."""
        new = {name: change(region) for name, region in self.calls.items()}
        if all(new[name] is region for name, region in self.calls.items()):
            return self
        return replace(self, calls=new)

    def images_per_sample_of(self, linear_op: LinearOp) -> int:
        """Return how many pictures a linear operation reads per sample of the batch."""
        first = self.plan.value(linear_op.input).shape[0]
        return int(str(first).removesuffix("B") or 1)
