"""Norms of secret values without their statistics: as a fixed scale and shift, or as arithmetic with one inverse square root."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import fx

from hecompile.approx.fits import Floats
from hecompile.approx.rewrite import Change, Values, lookup, rewritten
from hecompile.approx.tables import nearest_filled
from hecompile.calibration import Calibration, Call, timestep_bin
from hecompile.frontend.builder import Builder
from hecompile.ir.graph import ModelGraph, info

__all__ = ["NORMS", "secret_norms", "with_norms"]

NORMS = ("exact", "static", "polynomial")
LEAST_VARIANCE = 1e-12  # of a channel that is not constant
GROUP, LAYER = "aten.group_norm.default", "aten.layer_norm.default"


def secret_norms(graph: ModelGraph) -> list[fx.Node]:
    """Group and layer norms of secret values."""
    return [node for node in graph.nodes if str(node.target) in (GROUP, LAYER) and info(node).secret]


def with_norms(graph: ModelGraph, kind: str, calibration: Calibration, bins: int) -> ModelGraph:
    """The graph with its secret norms as `kind` says; itself if there is nothing to change."""
    norms = secret_norms(graph)
    if kind == "exact" or not norms:
        return graph
    if kind == "polynomial":
        return rewritten(graph, {node.name: _as_arithmetic(node) for node in norms})
    affines = _affines(graph, norms, calibration, bins)
    return rewritten(graph, {node.name: _as_affine(node, affines[node.name]) for node in norms})


def _dims(node: fx.Node) -> tuple[list[int], list[int]]:
    """The dimensions of a norm's result that weights run along, and the others, as far as they are summed over."""
    rank = len(info(node).shape)
    if str(node.target) == GROUP:
        return [1], [0, *range(2, rank)]
    count = len(node.args[1])  # type: ignore[arg-type]
    return list(range(rank - count, rank)), list(range(rank - count))


def _as_arithmetic(node: fx.Node) -> Change:
    """(x - mean) rsqrt(variance + eps), mean and variance by sums."""

    def build(builder: Builder, values: Values) -> fx.Node:
        def mean(value: fx.Node) -> fx.Node:
            return builder.emit("aten.mean.dim", value, dims, True)

        x: Any
        x, shape, weight, bias, eps = (values.get(arg, arg) for arg in node.args)  # type: ignore[call-overload]
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


@dataclass(frozen=True, eq=False)
class _Affine:
    """What stands for a norm: scale x + shift, (bins, ...) along the norm's weights."""

    scale: Floats
    shift: Floats


def _regression(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], dims: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The scale and shift that make the mean squared error of scale x + shift against y least, over all pairs (x, y)."""

    def mean(values: Iterable[torch.Tensor]) -> torch.Tensor:
        return torch.stack([value.mean(dims) for value in values]).mean(0)

    x_mean, y_mean = mean(x for x, _ in pairs), mean(y for _, y in pairs)
    variance = mean(x * x for x, _ in pairs) - x_mean**2
    covariance = mean(x * y for x, y in pairs) - x_mean * y_mean
    scale = torch.where(variance > LEAST_VARIANCE, covariance / variance, 0)
    return scale, y_mean - scale * x_mean


def _lockstep(graph: ModelGraph, calls: Sequence[Call]) -> Iterator[tuple[fx.Node, list[fx.Interpreter]]]:
    """Runs several calls node by node: each node after all calls computed it. What is in `env` by then is read by later nodes."""
    runs = [fx.Interpreter(graph.graph_module, garbage_collect_values=False) for _ in calls]
    for run, call in zip(runs, calls, strict=True):
        run.args_iter = iter([torch.from_numpy(np.asarray(call.inputs[spec.name])) for spec in graph.inputs])
    for node in graph.nodes:
        for run in runs:
            run.env[node] = run.run_node(node)
        yield node, runs


def _fitted(graph: ModelGraph, norms: Sequence[fx.Node], calls: Sequence[Call]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Each norm's scale and shift on the calls of one bin: towards what the exact network has there, from what the network has in
    which all earlier norms are replaced already, so that later ones make up for their errors."""
    found = {}
    with torch.no_grad():
        for (node, exact), (_, runs) in zip(_lockstep(graph, calls), _lockstep(graph, calls), strict=True):
            if node not in norms:
                continue
            (own, others), argument = _dims(node), node.args[0]
            pairs = [(run.env[argument].double(), reference.env[node].double()) for run, reference in zip(runs, exact, strict=True)]
            found[node.name] = scale, shift = _regression(pairs, others)
            tail = [1] * (len(info(node).shape) - 1 - own[-1])
            for run, (x, _) in zip(runs, pairs, strict=True):
                run.env[node] = (x * scale.reshape(*scale.shape, *tail) + shift.reshape(*shift.shape, *tail)).float()
    return found


def _affines(graph: ModelGraph, norms: Sequence[fx.Node], calibration: Calibration, bins: int) -> dict[str, _Affine]:
    by_bin: dict[int, list[Call]] = {}
    for call in calibration:
        by_bin.setdefault(timestep_bin(call.t, bins), []).append(call)
    filled = {place: _fitted(graph, norms, calls) for place, calls in sorted(by_bin.items())}
    places = nearest_filled(np.isin(np.arange(bins), list(filled)))
    tables = {node.name: [filled[place][node.name] for place in places] for node in norms}
    return {name: _Affine(*(torch.stack([row[side] for row in rows]).numpy() for side in (0, 1))) for name, rows in tables.items()}


def _as_affine(node: fx.Node, affine: _Affine) -> Change:
    """scale x + shift by timestep bin, along the dimensions of the norm's weights."""

    def build(builder: Builder, values: Values) -> fx.Node:
        x = values[node.args[0]]  # type: ignore[index]
        tail = [1] * (len(info(node).shape) - 2) if str(node.target) == GROUP else []
        rows = []
        for name, table in zip(("scale", "shift"), (affine.scale, affine.shift), strict=True):
            data = torch.from_numpy(np.float32(table)).reshape(*table.shape, *tail).contiguous()
            rows.append(lookup(builder, data.flatten(1), f"{node.name}_{name}"))
            rows[-1] = builder.emit("aten.reshape.default", rows[-1], list(data.shape[1:]))
        return builder.emit("aten.add.Tensor", builder.emit("aten.mul.Tensor", x, rows[0]), rows[1])

    return build
