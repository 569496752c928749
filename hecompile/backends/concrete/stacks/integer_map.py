"""A linear piece of the graph as one map of integers at common scales: layers, sums and multiples, without a step to round in.

Every value is `unit x integer`, with a unit per channel that is fixed when compiling; one scale per request, the client's,
multiplies them all. Weights are rounded so that the sums they go into have one unit. What does not depend on the inputs, biases
above all, is left to the client, which adds the piece's value at zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.backends.concrete.spans import products_of
from hecompile.ir.linear import Geometry, correlate

__all__ = ["Convolution", "IntegerMap", "Multiple", "Reshape", "Step", "Sum", "by_channel"]

CHUNK = 256  # inputs that coefficients are read off for at a time

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
    def entry_units(self) -> Floats:
        """The outputs' units, side by side (entries)."""
        return np.concatenate([units.reshape(-1) for units in self.units.values()])

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


def by_channel(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Pictures (E, C, H, W) or tokens (E, ..., C) -> (C, all else)."""
    axis = 1 if values.ndim == 4 else values.ndim - 1
    return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)


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
