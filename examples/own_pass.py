"""A pass of your own: count the secret multiply-adds per module, and refuse a model that has too many."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import hecompile
from hecompile.errors import CompileError
from hecompile.ir.graph import ModelGraph
from hecompile.ir.layers import secret_layers
from hecompile.passes.base import Pass


@dataclass(frozen=True)
class LimitWork(Pass[ModelGraph, ModelGraph]):
    """Refuse a model whose secret layers need more than `most_mmac` million multiply-adds."""

    most_mmac: float

    def run(self, program: ModelGraph) -> ModelGraph:
        work = Counter[str]()
        for layer in secret_layers(program):
            work[layer.linear_op.parts[0].path.split(".")[0]] += layer.linear_op.macs
        if work.total() > self.most_mmac * 1e6:
            raise CompileError(f"{work.total() / 1e6:.1f} million multiply-adds, most of them in {work.most_common(1)[0][0]}")
        return program


def compile_small(most_mmac: float) -> hecompile.Compiled:
    """The digits model, if it is small enough."""
    return hecompile.compile("digits", extra_passes={"mark-secrets": [LimitWork(most_mmac)]})


if __name__ == "__main__":
    for record in compile_small(10.0).passes:
        print(f"{record.name:<18} {record.summary}")
