"""The pass that divides layers whose sums are too long for any parameters into several shorter ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hecompile.backends.registry import backend
from hecompile.ir.divisions import Division, divide, divisions_of, part_of
from hecompile.ir.graph import ModelGraph
from hecompile.ir.layer_groups import LayerGroup, layer_group_of, layer_groups_of_shapes
from hecompile.ir.layers import LayerShape, group_layers, secret_layers, secret_shapes
from hecompile.passes.base import Pass

__all__ = ["DivideLayers"]


@dataclass(frozen=True)
class DivideLayers(Pass[ModelGraph, ModelGraph]):
    """Divide the input channels of layers that no parameters carry: parts are layers, whose results the client adds.

    %y = conv2d(%x, %w, %b)             ->  %y1 = conv2d(slice(%x), %w1, %b); %y2 = conv2d(slice(%x), %w2); %y = add(%y1, %y2)
    in two parts, four, eight and so on ->  as few as are carried
    carried, or not even by channels    ->  unchanged
    """

    backends: tuple[str, ...]  # that may run a layer
    security_bits: int

    def run(self, program: ModelGraph) -> ModelGraph:
        if program.is_meta:
            return program  # plans without weights take them to be of a usual shape where the largest are not carried
        names = {name for group in layer_groups_of_shapes(program) if not self._carried(group) for name in group.names}
        if not names:
            return program
        shapes = {shape.nodes[-1]: shape for shape in secret_shapes(program)}
        divisions = list(self._divisions(program, names, shapes))
        return divide(program, divisions) if divisions else program

    def _carried(self, group: LayerGroup) -> bool:
        """Return whether any of the backends has parameters for this group of layers."""
        return any(backend(name).carries(group, self.security_bits) for name in self.backends)

    def _divisions(self, program: ModelGraph, names: set[str], shapes: dict[str, LayerShape]) -> Iterator[Division]:
        """How to divide those of the named layers for which no backend has parameters."""
        for linear_op in group_layers([layer.linear_op for layer in secret_layers(program, names)]):
            shape = shapes[linear_op.parts[0].output]
            if self._carried(layer_group_of(linear_op, shape)):
                continue
            for division in divisions_of(program, linear_op):
                if all(self._carried(layer_group_of(part_of(linear_op, channels), shape)) for channels in division.parts):
                    yield division
                    break

    def summary(self, before: ModelGraph, after: ModelGraph) -> str:
        parts = len(secret_shapes(after)) - len(secret_shapes(before))
        return f"{parts} layers more" if parts else "nothing to do"
