"""Reads a stack's graph as a map of integers, with units for which both operands of every sum have the same unit.

A layer whose result is read by one sum alone gets the unit of that sum. Other operands are multiplied by an integer factor. Weights
have seven bits and a sign before they are adapted to a sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from hecompile.backends.concrete.limits import LIMIT
from hecompile.backends.concrete.stacks.integer_map import (
    Convolution,
    Floats,
    IntegerMap,
    Integers,
    Multiple,
    Reshape,
    Step,
    Sum,
    by_channel,
)
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.graph import ModelGraph, info, secret_operands
from hecompile.ir.layers import Layer, secret_layers, tensor_of
from hecompile.ir.linear import Array

if TYPE_CHECKING:
    from torch import fx

__all__ = ["integer_map"]

WEIGHT = 127  # largest weight of a layer before it is adapted to a sum
MOST = 2.0**32  # largest weight or factor
FAR = "values whose units are too far apart"
PRECISION = 128  # factors are at least this large, so that rounding changes them by less than one part in 256


def integer_map(graph: ModelGraph, ranges: Mapping[str, float]) -> IntegerMap:
    """Read the map of a stack's graph.

    Args:
        ranges: the largest magnitude of each input by name. Only their ratios matter.

    Raises:
        CompileError: if an operation is not linear, or if the units of a sum's operands are too far apart.
    """
    return _Reader(graph, ranges).map()


class _Reader:
    """Reads a graph node by node: chooses units, and emits the steps of the integer map."""

    def __init__(self, graph: ModelGraph, ranges: Mapping[str, float]) -> None:
        self._graph = graph
        self._layers = {layer.nodes[-1]: layer for layer in secret_layers(graph)}
        self._folded = {name for layer in self._layers.values() for name in layer.nodes[:-1]}
        self._steps: list[Step] = []
        self._units: dict[str, Floats] = {}  # (1, *shape)
        self._ranges = ranges

    def map(self) -> IntegerMap:
        """The map of the whole graph."""
        shapes, input_units = {}, {}
        for node in self._graph.nodes:
            if node.op == "placeholder":
                if not info(node).secret:
                    raise _refused(node, "a public value")
                largest = self._ranges.get(node.name, 1.0)
                input_units[node.name] = (largest if 0 < largest < np.inf else 1.0) / LIMIT
                shapes[node.name] = _shape(node)
                self._units[node.name] = np.full((1, *shapes[node.name]), input_units[node.name])
        for node in self._graph.nodes:
            if node.op == "call_function" and node.name not in self._folded and not self._waits(node):
                self._build(node)
        return IntegerMap(shapes, input_units, tuple(self._steps), {name: self._units[name][0] for name in self._graph.outputs})

    def _waits(self, node: fx.Node) -> bool:
        """True for a layer that one sum alone reads: it is emitted together with the sum, in the sum's unit."""
        readers = list(node.users)
        return node.name in self._layers and len(readers) == 1 and _is_sum(readers[0]) and len(secret_operands(readers[0])) == 2

    def _build(self, node: fx.Node) -> None:
        """Emit the steps of a node. Raises `CompileError` if it is not linear."""
        name, secrets = str(node.target), secret_operands(node)
        if node.name in self._layers:
            self._layer(node, _filled(self._finest(node)))
        elif _is_sum(node) and len(secrets) == 2:
            self._sum(node, secrets[0], secrets[1])
        elif _is_sum(node):  # with a constant, which the client adds
            self._alias(node, secrets[0], -1.0 if name == "aten.sub.Tensor" and node.args[1] is secrets[0] else 1.0)
        elif name == "aten.neg.default":
            self._alias(node, secrets[0], -1.0)
        elif name == "aten.mul.Tensor":
            other = next(arg for arg in node.args if arg is not secrets[0])
            constant = tensor_of(self._graph, other) if hasattr(other, "target") else np.asarray(float(str(other)))
            if constant is None or not constant.all():
                raise _refused(node, "a product with zeros")
            self._alias(node, secrets[0], constant)
        elif name == "aten.reshape.default":
            self._units[node.name] = self._units[secrets[0].name].reshape(1, *_shape(node))
            self._steps.append(Step(node.name, (secrets[0].name,), Reshape(_shape(node))))
        else:
            raise _refused(node, "not linear")

    def _alias(self, node: fx.Node, source: fx.Node, factor: float | Array) -> None:
        """Emit a value with the integers of `source`, whose units are multiplied by `factor`."""
        self._units[node.name] = np.broadcast_to(self._units[source.name] * factor, (1, *_shape(node)))
        self._steps.append(Step(node.name, (source.name,), Reshape(_shape(node))))

    def _real(self, layer: Layer) -> Floats:
        """The weights of a layer times the units of its input: (rows, C', K).

        Raises:
            CompileError: if units differ within a channel, or if weights are not finite.
        """
        linear_op, units = layer.linear_op, self._units[layer.linear_op.input]
        picture = linear_op.geometry.to_picture(units)[0].reshape(linear_op.geometry.picture[0], -1)
        inside = picture[:, 0]  # the last places of a strided picture may be padding
        if not np.allclose(picture, inside[:, None], atol=0.0):
            raise CompileError(f"{layer.nodes[-1]} in a stack: its unit differs within a channel")
        weights: Floats = linear_op.weights * inside[:, None]
        if not np.isfinite(weights).all():
            raise CompileError(Diagnostic(f"{layer.nodes[-1]}: weights are not finite", help="repair the model's weights"))
        return weights

    def _finest(self, node: fx.Node) -> Floats:
        """The unit of each output channel (C) at which a layer's weights have seven bits and a sign; zero for channels of zeros."""
        layer = self._layers[node.name]
        peaks = np.abs(self._real(layer)).max(axis=(1, 2)).reshape(layer.linear_op.geometry.outputs, -1).max(axis=1)
        finest: Floats = peaks / WEIGHT
        return finest

    def _layer(self, node: fx.Node, units: Floats) -> None:
        """Emit a layer whose result has these units (C)."""
        layer = self._layers[node.name]
        linear_op, geometry = layer.linear_op, layer.linear_op.geometry
        rows = np.repeat(units, geometry.up[0] * geometry.up[1])
        weights = _whole(node, self._real(layer) / rows[:, None, None])
        self._units[node.name] = _spread(units, node)
        self._steps.append(Step(node.name, (linear_op.input,), Convolution(geometry, weights)))

    def _sum(self, node: fx.Node, first: fx.Node, second: fx.Node) -> None:
        """Emit a sum. Layers that wait for it are rounded to its unit, and other operands are multiplied by a factor."""
        sign = -1 if str(node.target) == "aten.sub.Tensor" else 1
        waiting = [operand for operand in (first, second) if operand.name not in self._units]
        fixed = [operand for operand in (first, second) if operand.name in self._units]
        known = [_per_channel(np.abs(self._units[operand.name]), operand) for operand in fixed]
        finest = [self._finest(layer) for layer in waiting]
        if len({len(units) for units in (*known, *finest)}) > 1:
            raise _refused(node, "a sum that is broadcast over channels")
        if not known:
            units = _filled(np.maximum(*finest))
        elif finest:
            units = known[0] / np.maximum(1, np.rint(known[0] / np.where(finest[0] > 0, finest[0], known[0])))
        else:
            low, high = np.minimum(*known), np.maximum(*known)
            units = low / np.ceil(PRECISION * low / high)
        for layer in waiting:
            self._layer(layer, units)
        names = list[str]()
        for operand, factor in ((first, 1), (second, sign)):
            factors = _whole(node, factor * self._units[operand.name] / _spread(units, operand))
            if not factors.all():
                raise _refused(node, FAR)
            names.append(operand.name if (factors == 1).all() else f"{node.name}_{len(names)}")
            if names[-1] != operand.name:
                self._steps.append(Step(names[-1], (operand.name,), Multiple(factors)))
        self._units[node.name] = _spread(units, node)
        self._steps.append(Step(node.name, (names[0], names[1]), Sum()))


def _filled(units: Floats) -> Floats:
    """Give channels of zeros the finest unit of the other channels, so that no other value is rounded for them."""
    least = units[units > 0].min(initial=np.inf)
    return np.where(units > 0, units, least if np.isfinite(least) else 1.0)


def _whole(node: fx.Node, numbers: Floats) -> Integers:
    """Round numbers to integers. Raises `CompileError` if one is too large for products with ciphertexts."""
    if np.abs(numbers).max(initial=0.0) > MOST:
        raise _refused(node, FAR)
    integers: Integers = np.rint(numbers).astype(np.int64)
    return integers


def _is_sum(node: fx.Node) -> bool:
    """True for an addition or subtraction."""
    return str(node.target) in ("aten.add.Tensor", "aten.sub.Tensor")


def _shape(node: fx.Node) -> tuple[int, ...]:
    """The shape of a node's value for one element of the batch."""
    return tuple(int(str(size)) for size in info(node).shape[1:])


def _spread(units: Floats, node: fx.Node) -> Floats:
    """Broadcast units of channels (C) to a node's value: (1, *shape)."""
    shape = _shape(node)
    places = (1, len(units), *(1 for _ in shape[1:])) if len(shape) == 3 else (*(1 for _ in shape), len(units))
    return np.broadcast_to(units.reshape(places), (1, *shape))


def _per_channel(units: Floats, node: fx.Node) -> Floats:
    """The units of channels (C) of units (1, *shape). Raises `CompileError` if units differ within a channel."""
    rows = by_channel(units)
    if not np.allclose(rows, rows[:, :1], atol=0.0):
        raise _refused(node, "its unit differs within a channel")
    first: Floats = rows[:, 0]
    return first


def _refused(node: fx.Node, reason: str) -> CompileError:
    """The error that says why a node cannot be part of a stack."""
    return CompileError(Diagnostic(f"{node.name} in a stack: {reason}", source=info(node).source))
