"""Replaces norms of secret values, by a fixed scale and shift or by arithmetic with one inverse square root."""

from __future__ import annotations

from math import prod
from typing import Any

from torch import fx

from hecompile.approx.inner import is_inner
from hecompile.approx.rewrite import Change, Values, rewritten
from hecompile.approx.static_norms import GROUP, static_changes
from hecompile.calibration import Calibration
from hecompile.ir.builder import Builder
from hecompile.ir.graph import ModelGraph, info

__all__ = ["secret_norms", "with_norms"]

LAYER = "aten.layer_norm.default"


def secret_norms(graph: ModelGraph) -> list[fx.Node]:
    """The group and layer norms of secret values, in execution order."""
    return [node for node in graph.nodes if str(node.target) in (GROUP, LAYER) and info(node).secret]


def with_norms(graph: ModelGraph, kind: str, calibration: Calibration, bins: int, which: str = "all") -> ModelGraph:
    """Return the graph with its secret norms replaced, or `graph` itself if there is nothing to change.

    Args:
        kind: `exact` (no change), `static` (a fixed scale and shift) or `polynomial` (arithmetic).
        bins: how many timestep bins have a scale and shift of their own.
        which: `all` norms or `inner` ones.
    """
    norms = [node for node in secret_norms(graph) if which == "all" or is_inner(node)]
    if kind == "exact" or not norms:
        return graph
    if kind == "polynomial":
        return rewritten(graph, {node.name: _as_arithmetic(node) for node in norms})
    return rewritten(graph, static_changes(graph, norms, calibration, bins))


def _as_arithmetic(node: fx.Node) -> Change:
    """Write a norm as (x - mean) rsqrt(variance + eps), with mean and variance computed from x."""

    def build(builder: Builder, values: Values) -> fx.Node:
        def mean(value: fx.Node) -> fx.Node:
            return builder.emit("aten.mean.dim", value, dims, True)

        args: Any = node.args
        x, shape, weight, bias, eps = (values.get(arg, arg) for arg in args)
        sizes = [int(str(dim)) for dim in info(node).shape[1:]]
        grouped = str(node.target) == GROUP
        if grouped:
            x, dims = builder.emit("aten.reshape.default", x, [-1, shape, prod(sizes) // shape]), [2]
        else:
            dims = list(range(-len(shape), 0))
        centred = builder.emit("aten.sub.Tensor", x, mean(x))
        variance = mean(builder.emit("aten.mul.Tensor", centred, centred))
        root = builder.emit("aten.sqrt.default", builder.emit("aten.add.Tensor", variance, eps))
        result = builder.emit("aten.mul.Tensor", centred, builder.emit("aten.reciprocal.default", root))
        if grouped:
            result = builder.emit("aten.reshape.default", result, [-1, *sizes])
        for name, parameter in (("aten.mul.Tensor", weight), ("aten.add.Tensor", bias)):
            if parameter is not None:
                row = builder.emit("aten.reshape.default", parameter, [-1, *[1] * (len(sizes) - 1)]) if grouped else parameter
                result = builder.emit(name, result, row)
        return result

    return build
