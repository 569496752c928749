"""A linear piece of the graph as one map of integers at common scales: layers, sums and multiples, without a step to round in.

Every value is `unit x integer`, with a unit per channel that is fixed when compiling; one scale per request, the client's,
multiplies them all. Weights are rounded so that the sums they go into have one unit. What does not depend on the inputs, biases
above all, is left to the client, which adds the piece's value at zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hecompile.backends.concrete.spans import products_of
from hecompile.backends.concrete.stages import LIMIT
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.layers import Layer, secret_layers, tensor_of
from hecompile.ir.linear import Array, Geometry, correlate

if TYPE_CHECKING:
    from torch import fx

__all__ = ["Convolution", "IntegerMap", "Multiple", "Reshape", "Step", "Sum", "integer_map"]

WEIGHT = 127  # largest weight of a layer before it is fitted to a sum
CHUNK = 256  # inputs that coefficients are read off for at a time
PRECISION = 128  # a multiple is rounded to one part in so many, or better

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Convolution:
    """A layer: weights (rows, C', K) over the geometry's picture."""

    geometry: Geometry
    weights: Integers


@dataclass(frozen=True, eq=False)
class Multiple:
    """Every entry times a factor, (1, *shape) of the value."""

    factors: Integers


@dataclass(frozen=True)
class Sum:
    """Of two values, one of which may be broadcast."""


@dataclass(frozen=True)
class Reshape:
    """The same entries in another shape, that of one element."""

    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Step:
    """One operation on named values."""

    result: str
    operands: tuple[str, ...]
    action: Convolution | Multiple | Sum | Reshape


@dataclass(frozen=True, eq=False)
class IntegerMap:
    """Shapes and units of the inputs, steps, and the outputs' units by entry; shapes are those of one element."""

    shapes: Mapping[str, tuple[int, ...]]
    input_units: Mapping[str, float]
    steps: tuple[Step, ...]
    units: Mapping[str, Floats]

    def run(self, inputs: Mapping[str, Integers]) -> dict[str, Integers]:
        """Every value for inputs (E, *shape)."""
        values = dict(inputs)
        for step in self.steps:
            values[step.result] = _done(step.action, [values[name] for name in step.operands])
        return values

    @property
    def layers(self) -> int:
        """Convolutions and linear layers."""
        return sum(isinstance(step.action, Convolution) for step in self.steps)

    @property
    def products(self) -> int:
        """Products of an integer and a ciphertext for one element."""
        found = 0
        for step in self.steps:
            if isinstance(step.action, Convolution):
                geometry = step.action.geometry
                found += geometry.rows * geometry.picture[0] * products_of(geometry)
            elif isinstance(step.action, Multiple):
                found += step.action.factors.size
        return found

    def norm(self) -> float:
        """The largest 2-norm of an output's coefficients over all inputs: how much of their noise comes out.

        Coefficients are those of the whole map: values that go two ways to an output have noise that adds up, not one of each way.
        """
        squares = [np.zeros(units.shape) for units in self.units.values()]
        sizes = {name: math.prod(shape) for name, shape in self.shapes.items()}
        for name, size in sizes.items():
            for start in range(0, size, CHUNK):
                count = min(CHUNK, size - start)
                inputs = {other: np.zeros((count, *shape)) for other, shape in self.shapes.items()}
                inputs[name].reshape(count, size)[np.arange(count), start + np.arange(count)] = 1.0
                values = self.run(inputs)  # type: ignore[arg-type]  # floats, for speed: whole numbers all the same
                for total, output in zip(squares, self.units, strict=True):
                    total += np.square(values[output]).sum(axis=0)
        return math.sqrt(max(float(each.max()) for each in squares))

    def largest(self, limit: int) -> int:
        """No value is beyond, for inputs within the limit."""
        absolute = replace(self, steps=tuple(replace(step, action=_absolute(step.action)) for step in self.steps))
        values = absolute.run({name: np.full((1, *shape), limit, np.int64) for name, shape in self.shapes.items()})
        return max(int(value.max()) for value in values.values())


def _done(action: Convolution | Multiple | Sum | Reshape, operands: list[Integers]) -> Integers:
    first = operands[0]
    if isinstance(action, Convolution):
        geometry = action.geometry
        result = correlate(geometry.to_picture(first), action.weights, geometry.taps, geometry.grid)
        found: Integers = geometry.from_picture(result, first.shape[:-1] if geometry.tokens else ())
        return found
    if isinstance(action, Multiple):
        return first * action.factors
    return first + operands[1] if isinstance(action, Sum) else first.reshape(-1, *action.shape)


def _absolute(action: Convolution | Multiple | Sum | Reshape) -> Convolution | Multiple | Sum | Reshape:
    if isinstance(action, Convolution):
        return replace(action, weights=np.abs(action.weights))
    return Multiple(np.abs(action.factors)) if isinstance(action, Multiple) else action


def integer_map(graph: ModelGraph, ranges: Mapping[str, float]) -> IntegerMap:
    """The map of a region's graph; `ranges` are largest magnitudes of its inputs, of which ratios matter.

    Raises:
        CompileError: for what is not linear, or has no whole multiples.
    """
    return _Builder(graph, ranges).map()


class _Builder:
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
        return node.name in self._layers and len(readers) == 1 and _is_sum(readers[0]) and len(_secrets(readers[0])) == 2

    def _build(self, node: fx.Node) -> None:
        name, secrets = str(node.target), _secrets(node)
        if node.name in self._layers:
            self._layer(node, self._finest(node))
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
        if not np.allclose(each, inside[:, None]):
            raise CompileError(f"{layer.nodes[-1]}: a unit that changes over the picture")
        found: Floats = product.weights * inside[:, None]
        if not np.isfinite(found).all():
            raise CompileError(Diagnostic(f"{layer.nodes[-1]}: weights are not finite", help="repair the model's weights"))
        return found

    def _finest(self, node: fx.Node) -> Floats:
        """The unit, per channel of its result, with which a layer's weights have seven bits and a sign."""
        layer = self._layers[node.name]
        peaks = np.abs(self._real(layer)).max(axis=(1, 2)).reshape(layer.product.geometry.outputs, -1).max(axis=1)
        return np.where(peaks > 0, peaks / WEIGHT, peaks.max(initial=0.0) or 1.0)

    def _layer(self, node: fx.Node, units: Floats) -> None:
        """A layer whose result has these units, one per channel."""
        layer = self._layers[node.name]
        product, geometry = layer.product, layer.product.geometry
        rows = np.repeat(units, geometry.up[0] * geometry.up[1])
        weights = np.rint(self._real(layer) / rows[:, None, None]).astype(np.int64)
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
            units = np.maximum(*finest)
        elif finest:
            units = known[0] / np.maximum(1, np.rint(known[0] / finest[0]))
        else:
            low, high = np.minimum(*known), np.maximum(*known)
            units = low / np.ceil(PRECISION * low / high)
        for each in waiting:
            self._layer(each, units)
        names = list[str]()
        for each, factor in ((first, 1), (second, sign)):
            factors = np.rint(factor * self._units[each.name] / _spread(units, each))
            if not factors.all():
                raise _refused(node, "sums of values whose units are too far apart")
            names.append(each.name if (factors == 1).all() else f"{node.name}_{len(names)}")
            if names[-1] != each.name:
                self._steps.append(Step(names[-1], (each.name,), Multiple(factors.astype(np.int64))))
        self._units[node.name] = _spread(units, node)
        self._steps.append(Step(node.name, (names[0], names[1]), Sum()))


def _is_sum(node: fx.Node) -> bool:
    return str(node.target) in ("aten.add.Tensor", "aten.sub.Tensor")


def _secrets(node: fx.Node) -> list[fx.Node]:
    return [each for each in node.all_input_nodes if info(each).secret]


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
    each = np.moveaxis(units[0], 0 if units.ndim == 4 else -1, 0).reshape(units.shape[1 if units.ndim == 4 else -1], -1)
    if not np.allclose(each, each[:, :1]):
        raise _refused(node, "a unit that changes over the picture")
    first: Floats = each[:, 0]
    return first


def _refused(node: fx.Node, reason: str) -> CompileError:
    return CompileError(Diagnostic(f"{node.name} in a linear stack: {reason}", source=info(node).source))
