"""A stack as one map of integers: layers, sums and products with factors, without rounding between them.

Every value is `unit x integer`, with a unit per channel that is fixed when compiling, times one scale that the client chooses for
each request. Weights are rounded so that both sides of a sum have the same unit. What does not depend on the inputs, such as
biases, is left to the client, which adds the stack's outputs for inputs of zero.
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

CHUNK = 256  # input entries whose coefficients are found at a time

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Convolution:
    """A layer with weights (rows, C', K) over the picture of its geometry."""

    geometry: Geometry
    weights: Integers


@dataclass(frozen=True, eq=False)
class Multiple:
    """Multiplies every entry by its factor. Factors have the value's shape (1, *shape)."""

    factors: Integers


@dataclass(frozen=True)
class Sum:
    """Adds two values, one of which may be broadcast."""


@dataclass(frozen=True)
class Reshape:
    """Gives the entries another shape, which is that of one element."""

    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Step:
    """One operation on named values, and the name of its result."""

    result: str
    operands: tuple[str, ...]
    action: Convolution | Multiple | Sum | Reshape


@dataclass(frozen=True, eq=False)
class IntegerMap:
    """The shapes (of one element) and units of the inputs, the steps in order, and the units of the outputs by entry."""

    shapes: Mapping[str, tuple[int, ...]]
    input_units: Mapping[str, float]
    steps: tuple[Step, ...]
    units: Mapping[str, Floats]

    def run(self, inputs: Mapping[str, Integers]) -> dict[str, Integers]:
        """Compute every value for inputs (E, *shape), by name."""
        values = dict(inputs)
        for step in self.steps:
            values[step.result] = _done(step.action, [values[name] for name in step.operands])
        return values

    @property
    def entry_units(self) -> Floats:
        """The units of all outputs in one vector (entries)."""
        return np.concatenate([units.reshape(-1) for units in self.units.values()])

    @property
    def layers(self) -> int:
        """How many convolutions and linear layers there are."""
        return sum(isinstance(step.action, Convolution) for step in self.steps)

    @property
    def products(self) -> int:
        """How many products of an integer and a ciphertext one element takes."""
        count = 0
        for step in self.steps:
            if isinstance(step.action, Convolution):
                geometry = step.action.geometry
                count += geometry.rows * geometry.picture[0] * products_of(geometry)
            elif isinstance(step.action, Multiple):
                count += step.action.factors.size
        return count

    def norm(self) -> float:
        """The largest 2-norm of an output's coefficients over all inputs, which is the factor from the inputs' noise to its own.

        Coefficients are those of the whole map: where an input reaches an output by two ways, its noise adds up before squaring.
        """
        squares = [np.zeros(units.shape) for units in self.units.values()]
        sizes = {name: math.prod(shape) for name, shape in self.shapes.items()}
        for name, size in sizes.items():
            for start in range(0, size, CHUNK):
                count = min(CHUNK, size - start)
                inputs = {other: np.zeros((count, *shape)) for other, shape in self.shapes.items()}
                inputs[name].reshape(count, size)[np.arange(count), start + np.arange(count)] = 1.0
                values = self.run(inputs)  # type: ignore[arg-type]  # floats for speed; they hold integers exactly
                for total, output in zip(squares, self.units, strict=True):
                    total += np.square(values[output]).sum(axis=0)
        return math.sqrt(max(float(total.max()) for total in squares))

    def largest(self, limit: int) -> int:
        """A bound of the magnitude of every value, for inputs within [-limit, limit]."""
        absolute = replace(self, steps=tuple(replace(step, action=_absolute(step.action)) for step in self.steps))
        values = absolute.run({name: np.full((1, *shape), limit, np.int64) for name, shape in self.shapes.items()})
        return max(int(value.max()) for value in values.values())


def by_channel(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Bring the channels of pictures (E, C, H, W) or tokens (E, ..., C) to the front: (C, all other entries)."""
    axis = 1 if values.ndim == 4 else values.ndim - 1
    return np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)


def _done(action: Convolution | Multiple | Sum | Reshape, operands: list[Integers]) -> Integers:
    """The result of an operation on integers (E, *shape)."""
    first = operands[0]
    if isinstance(action, Convolution):
        geometry = action.geometry
        result = correlate(geometry.to_picture(first), action.weights, geometry.taps, geometry.grid)
        value: Integers = geometry.from_picture(result, first.shape[:-1] if geometry.tokens else ())
        return value
    if isinstance(action, Multiple):
        return first * action.factors
    return first + operands[1] if isinstance(action, Sum) else first.reshape(-1, *action.shape)


def _absolute(action: Convolution | Multiple | Sum | Reshape) -> Convolution | Multiple | Sum | Reshape:
    """The operation with the magnitudes of its weights or factors."""
    if isinstance(action, Convolution):
        return replace(action, weights=np.abs(action.weights))
    return Multiple(np.abs(action.factors)) if isinstance(action, Multiple) else action
