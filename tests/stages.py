"""Programs between passes, for tests that look at one of them."""

from __future__ import annotations

from hecompile.compiler import compile_model
from hecompile.ir.graph import ModelGraph
from hecompile.options import CompileOptions
from tests.networks import Tiny, tiny_inputs

__all__ = ["partitioned"]


def partitioned(options: CompileOptions) -> ModelGraph:
    """`Tiny` as it is before its secrecy is checked."""
    graph = compile_model(Tiny().eval(), options=options, example_inputs=tiny_inputs(), until="partition").program
    assert isinstance(graph, ModelGraph)
    return graph
