"""Replaces norms by a scale and a shift for each channel and timestep bin.

If there is one bin, they are folded into the next linear layer, or into the conv before, where that gives the same result. They
are chosen so that the result has the mean and variance that it has in the exact network. They are found norm after norm, on a
network in which all earlier norms are replaced already. Least squares would be nearer at each norm, but it shrinks values, and
that adds up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx

from hecompile.approx.rewrite import Change, Values, timestep_row
from hecompile.approx.tables import nearest_filled
from hecompile.calibration import Calibration, Call, timestep_bin
from hecompile.ir.builder import Builder
from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.layers import constant_of

__all__ = ["GROUP", "static_changes"]

GROUP = "aten.group_norm.default"
LEAST_VARIANCE = 1e-12  # a channel with less is treated as constant
ScaleShift = tuple[torch.Tensor, torch.Tensor]  # scale and shift, float64, along the dimensions of a norm's weights


def static_changes(graph: ModelGraph, norms: Sequence[fx.Node], calibration: Calibration, bins: int) -> dict[str, Change]:
    """The changes of the graph, by node name: for every norm, and for every layer that a scale and shift are folded into."""
    by_bin: dict[int, list[Call]] = {}
    for call in calibration:
        by_bin.setdefault(timestep_bin(call.t, bins), []).append(call)
    filled = {place: _fitted(graph, norms, calls) for place, calls in sorted(by_bin.items())}
    places = nearest_filled(np.array([float(place in filled) for place in range(bins)]))
    changes: dict[str, Change] = {}
    for node in norms:
        scale, shift = (torch.stack([filled[place][node][side] for place in places]) for side in (0, 1))
        layers = list(node.users) if bins == 1 and all(_takes_in(node, user) for user in node.users) else []
        if layers:
            changes[node.name] = _nothing(node)
            changes |= {layer.name: _with_affine(graph, layer, scale[0], shift[0]) for layer in layers}
        elif bins == 1 and (before := _only_for(node)) is not None and before.name not in changes:
            changes[node.name] = _nothing(node)
            changes[before.name] = _then_affine(graph, before, scale[0], shift[0])
        else:
            changes[node.name] = _as_affine(node, scale, shift)
    return changes


def _fitted(graph: ModelGraph, norms: Sequence[fx.Node], calls: Sequence[Call]) -> dict[fx.Node, ScaleShift]:
    """Find every norm's scale and shift on the calls of one bin."""
    fitted = dict[fx.Node, ScaleShift]()
    with torch.no_grad():
        for (node, exact), (_, runs) in zip(_lockstep(graph, calls), _lockstep(graph, calls), strict=True):
            if node not in norms:
                continue
            argument: Any = node.args[0]
            pairs = [(run.env[argument].double(), other.env[node].double()) for run, other in zip(runs, exact, strict=True)]
            fitted[node] = _matched(pairs, _summed(node))
            scale, shift = (_aligned(node, row) for row in fitted[node])
            for run, (x, _) in zip(runs, pairs, strict=True):
                run.env[node] = (x * scale + shift).float()
    return fitted


def _lockstep(graph: ModelGraph, calls: Sequence[Call]) -> Iterator[tuple[fx.Node, list[fx.Interpreter]]]:
    """Interpret all calls in lockstep, and yield after each node. Callers may replace `env[node]`, which later nodes then read."""
    runs = [fx.Interpreter(graph.graph_module, garbage_collect_values=False) for _ in calls]
    for run, call in zip(runs, calls, strict=True):
        run.args_iter = iter([torch.from_numpy(np.asarray(call.inputs[spec.name])) for spec in graph.inputs])
    for node in graph.nodes:
        for run in runs:
            run.env[node] = run.run_node(node)
        yield node, runs


def _summed(node: fx.Node) -> list[int]:
    """The dimensions of a norm's result along which its weights do not change."""
    shape: Any = node.args[1]
    rank = len(info(node).shape)
    return [0, *range(2, rank)] if str(node.target) == GROUP else list(range(rank - len(shape)))


def _aligned(node: fx.Node, row: torch.Tensor) -> torch.Tensor:
    """Give a row with one entry for each weight a shape that broadcasts to the norm's result."""
    return row.reshape(-1, *[1] * (len(info(node).shape) - 2)) if str(node.target) == GROUP else row


def _matched(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], dims: list[int]) -> ScaleShift:
    """The scale and shift for which scale x + shift has the mean and variance of y over all pairs (x, y).

    The sign of the scale is that of the covariance of x and y.
    """

    def mean(values: Iterable[torch.Tensor]) -> torch.Tensor:
        """The mean of each channel over all values."""
        return torch.stack([value.mean(dims) for value in values]).mean(0)

    x_mean, y_mean = mean(x for x, _ in pairs), mean(y for _, y in pairs)
    x_variance = mean(x * x for x, _ in pairs) - x_mean**2
    y_variance = (mean(y * y for _, y in pairs) - y_mean**2).clamp(min=0)
    rises = torch.sign(mean(x * y for x, y in pairs) - x_mean * y_mean)
    scale = torch.where(x_variance > LEAST_VARIANCE, rises * torch.sqrt(y_variance / x_variance), 0)
    return scale, y_mean - scale * x_mean


def _as_affine(node: fx.Node, scale: torch.Tensor, shift: torch.Tensor) -> Change:
    """Replace a norm by scale x + shift, with scale and shift read from timestep tables."""

    def build(builder: Builder, values: Values) -> fx.Node:
        rows = []
        for name, table in (("scale", scale), ("shift", shift)):
            row = timestep_row(builder, table.float().flatten(1), f"{node.name}_{name}")
            rows.append(builder.emit("aten.reshape.default", row, list(_aligned(node, table[0]).shape)))
        argument: Any = node.args[0]
        return builder.emit("aten.add.Tensor", builder.emit("aten.mul.Tensor", values[argument], rows[0]), rows[1])

    return build


def _takes_in(norm: fx.Node, user: fx.Node) -> bool:
    """True if a scale and shift before this layer can be folded into its weights: it has no padding and no groups."""
    args: Any = user.args
    if args[0] is not norm:
        return False
    if str(user.target) == "aten.linear.default":
        shape: Any = norm.args[1]
        return str(norm.target) != GROUP and len(shape) == 1
    return str(user.target) == "aten.conv2d.default" and str(norm.target) == GROUP and not any(args[4]) and args[6] == 1


def _nothing(node: fx.Node) -> Change:
    """Replace a norm by its argument, since its scale and shift are folded into a layer."""
    argument: Any = node.args[0]
    return lambda builder, values: values[argument]


def _only_for(norm: fx.Node) -> fx.Node | None:
    """The conv that makes a norm's argument, if only the norm reads it; else None."""
    before: Any = norm.args[0]
    alone = str(norm.target) == GROUP and str(before.target) == "aten.conv2d.default" and len(before.users) == 1
    return before if alone else None


def _then_affine(graph: ModelGraph, layer: fx.Node, scale: torch.Tensor, shift: torch.Tensor) -> Change:
    """Fold a scale and shift into the conv before. It may have padding, since its input does not change."""

    def build(builder: Builder, values: Values) -> fx.Node:
        args: Any = layer.args
        weight = constant_of(graph, args[1]).double()
        bias = torch.zeros(len(weight)) if args[2] is None else constant_of(graph, args[2]).double()
        constants = [
            builder.constant(tensor.float(), f"{layer.name}_{name}")
            for name, tensor in (("weight", weight * scale.reshape(-1, 1, 1, 1)), ("bias", bias * scale + shift))
        ]
        return builder.emit(str(layer.target), values[args[0]], *constants, *args[3:])

    return build


def _with_affine(graph: ModelGraph, layer: fx.Node, scale: torch.Tensor, shift: torch.Tensor) -> Change:
    """Fold a scale and shift into the layer behind: weight * scale, and bias + weight shift."""

    def build(builder: Builder, values: Values) -> fx.Node:
        args: Any = layer.args
        weight = constant_of(graph, args[1]).double()
        bias = 0 if args[2] is None else constant_of(graph, args[2]).double()
        columns = weight.flatten(2).sum(2) if weight.dim() == 4 else weight  # (O, C)
        scaled = weight * scale.reshape(1, -1, *[1] * (weight.dim() - 2))
        constants = [
            builder.constant(tensor.float(), f"{layer.name}_{name}")
            for name, tensor in (("weight", scaled), ("bias", bias + columns @ shift))
        ]
        return builder.emit(str(layer.target), values[args[0]], *constants, *args[3:])

    return build
