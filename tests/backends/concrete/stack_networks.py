"""Small networks with linear stacks in them, and what tests do with one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import Conv2d, ConvTranspose2d, Linear, functional

from hecompile.backends.concrete.stacks.candidates import stack_candidates
from hecompile.backends.concrete.stacks.integer_map import IntegerMap
from hecompile.backends.concrete.stacks.reader import integer_map
from hecompile.compiler import pipeline
from hecompile.frontend.sources import load_source
from hecompile.ir.graph import ModelGraph
from hecompile.ir.regions import SubgraphRegion
from hecompile.ir.subgraph import cut
from hecompile.options import CompileOptions

Layers = dict[str, torch.nn.Module]
Form = Callable[..., torch.Tensor]


def conv(channels: int, outputs: int, size: int = 3, stride: int = 1) -> Conv2d:
    return Conv2d(channels, outputs, size, stride, padding=size // 2)


# what a network computes of its picture (B, C, 4, 4), its layers, and how many layers its largest stack has
FORMS: dict[str, tuple[Callable[[], Layers], Form, int]] = {
    "in a row": (lambda: {"a": conv(2, 3), "b": conv(3, 2)}, lambda m, x: m.b(m.a(x)), 2),
    "in a row of eight": (lambda: {"a": conv(8, 8), "b": conv(8, 8)}, lambda m, x: m.b(m.a(x)), 2),
    "three in a row": (lambda: {"a": conv(2, 3), "b": conv(3, 2), "c": conv(2, 2)}, lambda m, x: m.c(m.b(m.a(x))), 3),
    "with a skip": (lambda: {"a": conv(2, 3), "b": conv(3, 2)}, lambda m, x: m.b(m.a(x)) + x, 2),
    "side by side": (lambda: {"a": conv(2, 3), "b": conv(2, 3, 1)}, lambda m, x: m.a(x) + m.b(x), 2),
    "subtracted": (lambda: {"a": conv(2, 3), "b": conv(2, 3, 1)}, lambda m, x: m.a(x) - m.b(x), 2),
    "skip first": (lambda: {"a": conv(2, 2), "b": conv(2, 3)}, lambda m, x: m.b(x - m.a(x)), 2),
    "scaled": (lambda: {"a": conv(2, 2), "b": conv(2, 3)}, lambda m, x: m.b(0.5 * m.a(x) - 1.0), 2),
    "turned": (lambda: {"a": conv(2, 2), "b": conv(2, 3)}, lambda m, x: m.b(1.0 - m.a(x)), 2),
    "strided": (lambda: {"a": conv(2, 3), "b": conv(3, 2, stride=2)}, lambda m, x: m.b(m.a(x)), 2),
    "upsampled": (
        lambda: {"a": conv(2, 3), "b": conv(3, 2)}, lambda m, x: m.b(functional.interpolate(m.a(x), scale_factor=2.0)), 2,
    ),
    "transposed": (
        lambda: {"a": conv(2, 3), "b": ConvTranspose2d(3, 2, 4, stride=2, padding=1)}, lambda m, x: m.b(m.a(x)), 2,
    ),
    "tokens": (lambda: {"a": Linear(4, 5), "b": Linear(5, 3)}, lambda m, x: m.b(m.a(x[:, 0])), 2),
    "one token": (lambda: {"a": Linear(4, 5), "b": Linear(5, 3)}, lambda m, x: m.b(m.a(x[:, 0, 0])), 2),
    "a grid of tokens": (lambda: {"a": Linear(4, 5), "b": Linear(5, 3)}, lambda m, x: m.b(m.a(x)), 0),
    "activation between": (lambda: {"a": conv(2, 3), "b": conv(3, 2)}, lambda m, x: m.b(functional.silu(m.a(x))), 0),
    "needed outside": (
        lambda: {"a": conv(2, 2), "b": conv(2, 2)}, lambda m, x: (lambda y: m.b(y) * functional.silu(y))(m.a(x)), 0,
    ),
}  # fmt: skip


class Net(torch.nn.Module):
    """A form over its layers."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers, self.form, _ = FORMS[name]
        for key, layer in layers().items():
            self.add_module(key, layer)
        self.channels = next(iter(self.parameters())).shape[1]

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        return self.form(self, sample)


def marked(net: torch.nn.Module, example: dict[str, torch.Tensor]) -> ModelGraph:
    program: Any = load_source(net.eval(), example)
    for step in pipeline(CompileOptions(), None)[:3]:
        program = step.run(program)
    assert isinstance(program, ModelGraph)
    return program


def largest_region(graph: ModelGraph) -> SubgraphRegion:
    nodes = set(
        max((candidate.nodes for candidate in stack_candidates(graph, "concrete_stacks")), key=lambda names: len(set(names)))
    )
    return SubgraphRegion("stack", "concrete_stacks", *cut(graph, [node for node in graph.nodes if node.name in nodes]))


def map_of(region: SubgraphRegion) -> IntegerMap:
    return integer_map(ModelGraph(region.graph_module, (), region.outputs), {})
