"""Many calls of one kind as one module: traced at once, and each compared with what torch computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from hecompile.errors import CompileError
from hecompile.frontend.sources import load_source
from hecompile.ir.graph import Batch, ModelGraph, info
from hecompile.ir.linear import Array
from hecompile.ir.ops import LINEAR
from hecompile.ir.verify import verify_graph
from hecompile.onnx_export import to_onnx
from hecompile.passes.canonicalize import Canonicalize
from hecompile.passes.trace import Trace

__all__ = ["TOLERANCE", "Call", "Calls", "Kind", "refusal_of", "waves"]

Call = Callable[..., Tensor] | tuple[Any, ...]  # a function, a module, or a function and the modules that it is given
TOLERANCE = 2e-5  # of the largest entry
BATCHES = (1, 3)  # the trace is made at 2


def waves(*shape: int) -> Tensor:
    """Numbers between -1 and 1, none like its neighbours; torch.export traces them as constants."""
    return torch.sin(torch.arange(float(math.prod(shape))) * 1.3 + len(shape)).reshape(shape)


class Calls(nn.Module):
    """Every call on the same inputs, after something that is not constant. The results are a tuple."""

    def __init__(self, calls: Mapping[str, Call]) -> None:
        super().__init__()
        self.calls = [call if isinstance(call, tuple) else (call,) for call in calls.values()]
        self.parts = nn.ModuleList(part for call in self.calls for part in call if isinstance(part, nn.Module))
        self.eval()

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, ...]:
        inputs = [1.5 * value for value in (x, y) if value is not None]
        return tuple(call(*inputs, *modules) for call, *modules in self.calls)


@dataclass(frozen=True)
class Agreement:
    """How far the traced and the canonical graph and its ONNX are from torch, per call, of its largest entry; the operations of the
    canonical graph and of what canonicalize makes of it; the linear layers that do not read the batch in front."""

    differences: Mapping[str, float]
    operations: list[str]
    operations_again: list[str]
    behind: list[str]


class Kind:
    """Calls of one kind on inputs x and y of the given shapes, with a batch of two. All are traced as one module; so are the few
    that are quick, as the others are only tried where slow tests are."""

    def __init__(self, calls: Mapping[str, Call], quick: Sequence[str] = (), **shapes: tuple[int, ...]) -> None:
        self.calls, self.quick, self.shapes = calls, {name: calls[name] for name in quick}, shapes

    @property
    def names(self) -> list[Any]:
        """The calls' names as parameters of a test."""
        return [pytest.param(name, marks=[] if name in self.quick else [pytest.mark.slow]) for name in self.calls]

    @cached_property
    def few(self) -> Agreement:
        """What becomes of the quick calls."""
        return _agreement_of(self.quick, self.shapes)

    @cached_property
    def all(self) -> Agreement:
        """What becomes of all calls."""
        return _agreement_of(self.calls, self.shapes)

    def difference(self, name: str) -> float:
        """How far a call's results are from torch's, of the largest entry."""
        return (self.few if name in self.quick else self.all).differences[name]


def _agreement_of(calls: Mapping[str, Call], shapes: Mapping[str, tuple[int, ...]]) -> Agreement:
    """Traces all calls at a batch of two and runs them at others."""
    module = Calls(calls)
    generator = torch.Generator().manual_seed(0)
    examples = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    traced = Trace().run(load_source(module, examples))
    canonical = Canonicalize().run(traced)
    verify_graph(canonical)
    single, places = _each_once(canonical)
    session = onnxruntime.InferenceSession(to_onnx(single.graph_module, "calls"), providers=["CPUExecutionProvider"])
    worst = dict.fromkeys(calls, 0.0)
    for batch in BATCHES:
        inputs = [torch.randn(batch, *shape[1:], generator=generator) for shape in shapes.values()]
        fed = {spec.name: value.numpy() for spec, value in zip(canonical.inputs, inputs, strict=True)}
        with torch.no_grad():
            expected = [value.numpy() for value in module(*inputs)]
            results = [[value.numpy() for value in traced(*inputs)]]
            of_torch, of_onnx = [value.numpy() for value in single(*inputs)], session.run(None, fed)
        results += [[values[place] for place in places] for values in (of_torch, of_onnx)]
        for result in results:
            for name, value, right in zip(calls, result, expected, strict=True):
                worst[name] = max(worst[name], _difference(value, right))
    return Agreement(worst, _operations(single), _operations(Canonicalize().run(single)), _behind(single))


def _each_once(graph: ModelGraph) -> tuple[ModelGraph, list[int]]:
    """The graph with every result once, as equal calls are shared, and where the result of each call stands."""
    (output,) = (node for node in graph.graph_module.graph.nodes if node.op == "output")
    names = list(dict.fromkeys(graph.outputs))
    output.args = (tuple({node.name: node for node in output.args[0]}.values()),)
    graph.graph_module.recompile()
    return replace(graph, outputs=tuple(names)), [names.index(name) for name in graph.outputs]


def _difference(value: Array, right: Array) -> float:
    """Relative to the largest entry; infinite where shape or type differ, or something is no number."""
    if value.shape != right.shape or value.dtype != right.dtype:
        return math.inf
    scale = float(np.abs(right.astype(np.float64)).max(initial=0.0)) or 1.0
    change = float(np.abs(value.astype(np.float64) - right.astype(np.float64)).max(initial=0.0)) / scale
    return change if np.isfinite(change) else math.inf


def _operations(graph: ModelGraph) -> list[str]:
    return [str(node.target) for node in graph.nodes if node.op == "call_function"]


def _behind(graph: ModelGraph) -> list[str]:
    shapes = {node.name: info(node.args[0]).shape for node in graph.nodes if str(node.target) in LINEAR}
    return [name for name, shape in shapes.items() if not isinstance(shape[0], Batch)]


def refusal_of(call: Call, **shapes: tuple[int, ...]) -> CompileError | None:
    """What a call is refused with; None if it is read."""
    examples = {name: torch.ones(shape) for name, shape in shapes.items()}
    try:
        Canonicalize().run(Trace().run(load_source(Calls({"call": call}), examples)))
    except CompileError as error:
        return error
    return None
