"""The pass that reads a source, such as a module or an ONNX file, as a graph."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hecompile.frontend.conditions import hide_pictures, with_conditions
from hecompile.frontend.sources import Source, check_declared, examples_for
from hecompile.ir.graph import ModelGraph
from hecompile.passes.base import Pass

__all__ = ["Trace"]


@dataclass(frozen=True)
class Trace(Pass[Source, ModelGraph]):
    """Read a module (torch.export) or an ONNX file as a graph of aten calls.

    unet(sample, timestep, class_labels)  ->  %conv_in_conv2d = conv2d(%sample, ...)  # conv_in, unet_2d.py:311
    sizes                                 ->  integers, or multiples of the batch B
    """

    @property
    def canonical(self) -> bool:
        """False: the graph has whatever calls the source makes, and the next pass writes them as the op table does."""
        return False

    def run(self, program: Source) -> ModelGraph:
        if program.onnx is not None:
            from hecompile.frontend.onnx import import_onnx

            graph = import_onnx(program.onnx, program.public)
        else:
            from hecompile.frontend.export.exported import import_module

            graph = replace(import_module(program), schedule=program.schedule)
        inputs = with_conditions(hide_pictures(graph.inputs))
        check_declared(program, graph)
        return replace(graph, inputs=inputs, examples=examples_for(program, graph))

    def summary(self, before: Source, after: ModelGraph) -> str:
        return f"{len(after.nodes)} nodes from {before.name}" + (f", {before.remark}" if before.remark else "")
