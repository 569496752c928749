"""The program after split: client regions, call regions and the plan that runs them over named values.

A **region** is everything answered by one request (`CallRegion`), or everything the client computes between two requests
(`ClientRegion`). `Program.run` is the reference: client regions in torch, call regions by their products' own arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from hecompile.errors import InternalError
from hecompile.ir.linear import Array
from hecompile.ir.plan import Plan
from hecompile.ir.products import AnyProduct
from hecompile.ir.signature import Keyword, Signature

if TYPE_CHECKING:
    from torch import fx

    from hecompile.ir.approximation import Approximation
    from hecompile.ir.graph import InputSpec
    from hecompile.ir.halves import ClientHalf, ServerHalf

__all__ = ["AnyCall", "CallRegion", "ClientRegion", "Lowered", "Program", "SubgraphRegion"]


@dataclass(frozen=True, eq=False)
class ClientRegion:
    """A piece of the graph that the client runs as it is."""

    name: str
    graph_module: fx.GraphModule
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def reference(self, values: Sequence[Array]) -> list[Array]:
        """The outputs, computed by torch."""
        return _run(self.graph_module, values)


def _run(graph_module: fx.GraphModule, values: Sequence[Array]) -> list[Array]:
    import torch

    with torch.no_grad():
        results = graph_module(*(torch.from_numpy(np.asarray(value)) for value in values))
    return [result.numpy() for result in results]


@dataclass(frozen=True, eq=False)
class Lowered:
    """A region's two halves. No file keeps the note: parameters, and what was predicted and measured."""

    client: ClientHalf
    server: ServerHalf
    note: str = ""


@dataclass(frozen=True, eq=False)
class CallRegion:
    """Independent linear layers of one depth, answered by one request. `once`: its inputs do not change within a run."""

    name: str
    backend: str
    products: tuple[AnyProduct, ...]
    once: bool = False
    lowered: Lowered | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(product.input for product in self.products))

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(part.output for product in self.products for part in product.parts)

    def reference(self, values: Sequence[Array]) -> list[Array]:
        """The outputs, computed in the clear at the products' stage."""
        by_name = dict(zip(self.inputs, values, strict=True))
        return [output for product in self.products for output in product.reference(by_name[product.input])]

    def with_products(self, change: Callable[[AnyProduct], AnyProduct]) -> CallRegion:
        """The region with its products changed; itself if none changed."""
        products = tuple(change(product) for product in self.products)
        return (
            self if all(new is old for new, old in zip(products, self.products, strict=True)) else replace(self, products=products)
        )


@dataclass(frozen=True, eq=False)
class SubgraphRegion:
    """A piece of the graph with several layers, answered by one request."""

    name: str
    backend: str
    graph_module: fx.GraphModule
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    once: bool = False
    lowered: Lowered | None = None

    def reference(self, values: Sequence[Array]) -> list[Array]:
        """The outputs, computed by torch."""
        return _run(self.graph_module, values)


AnyCall = CallRegion | SubgraphRegion


@dataclass(frozen=True, eq=False)
class Program:
    """Regions and the plan. Runnable at every stage."""

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

    def __post_init__(self) -> None:
        for step in self.plan.steps:
            region = (self.clients if step.kind == "client" else self.calls).get(step.region)
            if region is None or (region.inputs, region.outputs) != (step.inputs, step.outputs):
                raise InternalError(f"plan: step '{step.region}' does not match its region")

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Every value of the plan for the named inputs; the outputs are among them."""
        values = dict(inputs)
        for step in self.plan.steps:
            region = self.clients[step.region] if step.kind == "client" else self.calls[step.region]
            results = region.reference([values[name] for name in step.inputs])
            values.update(zip(step.outputs, results, strict=True))
        return values

    @property
    def products(self) -> list[AnyProduct]:
        """The products of all regions, at their stage."""
        return [product for region in self.calls.values() if isinstance(region, CallRegion) for product in region.products]

    def with_calls(self, change: Callable[[AnyCall], AnyCall]) -> Program:
        """A program whose call regions went through `change`; itself if none changed."""
        new = {name: change(region) for name, region in self.calls.items()}
        if all(new[name] is region for name, region in self.calls.items()):
            return self
        return replace(self, calls=new)

    def multiple_of(self, product: AnyProduct) -> int:
        """Pictures of a product's input per entry of the batch."""
        first = self.plan.value(product.input).shape[0]
        return int(str(first).removesuffix("B") or 1)
