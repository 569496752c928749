"""A linear region's graph read as a map of integers: units are chosen so that the operands of every sum have one.

A layer whose result goes into one sum alone takes the unit of the sum; other values are multiplied to it. Weights have seven bits
and a sign before they are fitted.
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

WEIGHT = 127  # largest weight of a layer before it is fitted to a sum
MOST = 2.0**32  # of a weight or a multiple
FAR = "values whose units are too far apart"
PRECISION = 128  # a multiple is rounded to one part in so many, or better


def integer_map(graph: ModelGraph, ranges: Mapping[str, float]) -> IntegerMap:
    """The map of a region's graph; `ranges` are largest magnitudes of its inputs, of which ratios matter.

    Raises:
        CompileError: for what is not linear, or has no whole multiples.
    """
    return _Reader(graph, ranges).map()


class _Reader:
    def __init__(self, graph: ModelGraph, ranges: Mapping[str, float]) -> None:
        self._graph = graph
        self._layers = {layer.nodes[-1]: layer for layer in secret_layers(graph)}
        self._folded = {name for layer in self._layers.values() for name in layer.nodes[:-1]}
        self._steps: list[Step] = []
        self._units: dict[str, Floats] = {}  # (1, *shape)
        self._ranges = ranges

    def map(self) -> IntegerMap:
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
        """Whether a layer takes the unit of the sum that alone reads it."""
        readers = list(node.users)
        return node.name in self._layers and len(readers) == 1 and _is_sum(readers[0]) and len(secret_operands(readers[0])) == 2

    def _build(self, node: fx.Node) -> None:
        name, secrets = str(node.target), secret_operands(node)
        if node.name in self._layers:
            self._layer(node, _filled(self._finest(node)))
        elif _is_sum(node) and len(secrets) == 2:
            self._sum(node, secrets[0], secrets[1])
        elif _is_sum(node):  # with a constant, which is the client's
            self._alias(node, secrets[0], -1.0 if name == "aten.sub.Tensor" and node.args[1] is secrets[0] else 1.0)
        elif name == "aten.neg.default":
            self._alias(node, secrets[0], -1.0)
        elif name == "aten.mul.Tensor":
            other = next(each for each in node.args if each is not secrets[0])
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
        """The same integers in other units."""
        self._units[node.name] = np.broadcast_to(self._units[source.name] * factor, (1, *_shape(node)))
        self._steps.append(Step(node.name, (source.name,), Reshape(_shape(node))))

    def _real(self, layer: Layer) -> Floats:
        """The weights that a layer's integers meet: times the units of what it reads."""
        product, units = layer.product, self._units[layer.product.input]
        each = product.geometry.to_picture(units)[0].reshape(product.geometry.picture[0], -1)
        inside = each[:, 0]  # the last places of a strided picture may be padding
        if not np.allclose(each, inside[:, None], atol=0.0):
            raise CompileError(f"{layer.nodes[-1]}: a unit that changes over the picture")
        found: Floats = product.weights * inside[:, None]
        if not np.isfinite(found).all():
            raise CompileError(Diagnostic(f"{layer.nodes[-1]}: weights are not finite", help="repair the model's weights"))
        return found

    def _finest(self, node: fx.Node) -> Floats:
        """The unit, per channel of its result, with which a layer's weights have seven bits and a sign; zero for zeros."""
        layer = self._layers[node.name]
        peaks = np.abs(self._real(layer)).max(axis=(1, 2)).reshape(layer.product.geometry.outputs, -1).max(axis=1)
        finest: Floats = peaks / WEIGHT
        return finest

    def _layer(self, node: fx.Node, units: Floats) -> None:
        """A layer whose result has these units, one per channel."""
        layer = self._layers[node.name]
        product, geometry = layer.product, layer.product.geometry
        rows = np.repeat(units, geometry.up[0] * geometry.up[1])
        weights = _whole(node, self._real(layer) / rows[:, None, None])
        self._units[node.name] = _spread(units, node)
        self._steps.append(Step(node.name, (product.input,), Convolution(geometry, weights)))

    def _sum(self, node: fx.Node, first: fx.Node, second: fx.Node) -> None:
        """Both operands in one unit: layers that wait are rounded to it, other values are multiplied."""
        sign = -1 if str(node.target) == "aten.sub.Tensor" else 1
        waiting = [each for each in (first, second) if each.name not in self._units]
        fixed = [each for each in (first, second) if each.name in self._units]
        known = [_per_channel(np.abs(self._units[each.name]), each) for each in fixed]
        finest = [self._finest(each) for each in waiting]
        if len({len(units) for units in (*known, *finest)}) > 1:
            raise _refused(node, "a sum that is broadcast over channels")
        if not known:
            units = _filled(np.maximum(*finest))
        elif finest:
            units = known[0] / np.maximum(1, np.rint(known[0] / np.where(finest[0] > 0, finest[0], known[0])))
        else:
            low, high = np.minimum(*known), np.maximum(*known)
            units = low / np.ceil(PRECISION * low / high)
        for each in waiting:
            self._layer(each, units)
        names = list[str]()
        for each, factor in ((first, 1), (second, sign)):
            factors = _whole(node, factor * self._units[each.name] / _spread(units, each))
            if not factors.all():
                raise _refused(node, FAR)
            names.append(each.name if (factors == 1).all() else f"{node.name}_{len(names)}")
            if names[-1] != each.name:
                self._steps.append(Step(names[-1], (each.name,), Multiple(factors)))
        self._units[node.name] = _spread(units, node)
        self._steps.append(Step(node.name, (names[0], names[1]), Sum()))


def _filled(units: Floats) -> Floats:
    """Channels of zeros have the finest unit of the others, so that nothing is rounded for them."""
    least = units[units > 0].min(initial=np.inf)
    return np.where(units > 0, units, least if np.isfinite(least) else 1.0)


def _whole(node: fx.Node, numbers: Floats) -> Integers:
    """Rounded. Raises `CompileError` if no ciphertext holds products with them."""
    if np.abs(numbers).max(initial=0.0) > MOST:
        raise _refused(node, FAR)
    found: Integers = np.rint(numbers).astype(np.int64)
    return found


def _is_sum(node: fx.Node) -> bool:
    return str(node.target) in ("aten.add.Tensor", "aten.sub.Tensor")


def _shape(node: fx.Node) -> tuple[int, ...]:
    """Of one element."""
    return tuple(int(str(size)) for size in info(node).shape[1:])


def _spread(units: Floats, node: fx.Node) -> Floats:
    """Units per channel as (1, *shape)."""
    shape = _shape(node)
    places = (1, len(units), *(1 for _ in shape[1:])) if len(shape) == 3 else (*(1 for _ in shape), len(units))
    return np.broadcast_to(units.reshape(places), (1, *shape))


def _per_channel(units: Floats, node: fx.Node) -> Floats:
    """The other way round. Raises `CompileError` if they change over the picture."""
    each = by_channel(units)
    if not np.allclose(each, each[:, :1], atol=0.0):
        raise _refused(node, "a unit that changes over the picture")
    first: Floats = each[:, 0]
    return first


def _refused(node: fx.Node, reason: str) -> CompileError:
    return CompileError(Diagnostic(f"{node.name} in a linear stack: {reason}", source=info(node).source))
