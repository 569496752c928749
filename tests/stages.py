"""Programs between passes, for tests that look at one of them."""

from __future__ import annotations

from typing import Any

from hecompile.compiler import pipeline
from hecompile.frontend.sources import load_source
from hecompile.ir.graph import ModelGraph
from hecompile.options import CompileOptions
from tests.networks import Tiny, tiny_inputs

__all__ = ["partitioned"]


def partitioned(options: CompileOptions) -> ModelGraph:
    """`Tiny` as it is before its secrecy is checked."""
    program: Any = load_source(Tiny().eval(), tiny_inputs())
    for each in pipeline(options, None):
        if each.name == "check-secrecy":
            break
        program = each.run(program)
    assert isinstance(program, ModelGraph)
    return program
