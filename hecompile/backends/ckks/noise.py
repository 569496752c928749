"""Predicts the errors that CKKS adds to values, slot by slot: by encryption, encoding, rescaling and key switching.

Errors are described by their variance in each slot. An error polynomial whose coefficients have variance v gives slots of
variance at most N v / scale^2, real and imaginary part together. For a ternary secret and sigma^2 = 10.5 the variances v are:

    fresh                10.5 + 1/12                          rescaling    (1 + 2 N / 3) / 12
    key switching at l   sum_i N 10.5 q_i^2 / 12 / P^2 + (1 + 2 N / 3) / 12
    plaintexts           1/12 each, times the value

SEAL rounds down when it switches keys. This adds an error of 1/2 to every coefficient of both polynomials, which is large in the
few slots whose root of unity z is near one: there |1 + z + ... + z^(N-1)| = 2 / |1 - z| is large.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from hecompile.backends.ckks.engine import ClearEngine, Engine, Tables, Vector
from hecompile.backends.ckks.program import SlotOp, SlotProgram
from hecompile.backends.ckks.value import Value

__all__ = ["SIGMAS", "Estimate", "NoiseEngine", "predict"]

SIGMA2 = 10.5
TYPICAL = 3.0  # range over root mean square of values that a layer reads
POINTS = 201  # at which a polynomial's error is computed over its range
SIGMAS = 7.0  # standard deviations of a bound: a slot exceeds it with probability below 2^-38


@dataclass(frozen=True, eq=False)
class Estimate:
    """The variance of the error in each slot, and a bound of the values. Within a polynomial: at each point of its range."""

    variance: Vector
    range: float
    points: Vector | None = None  # the values at the points


class NoiseEngine(Engine):
    """An engine whose data are variances of the error (`Estimate`) instead of values."""

    def _slots(self, variance: float, scale: float) -> float:
        """The variance in each slot for coefficients of this variance at this scale."""
        return self.ring.dimension * variance / scale**2

    @property
    def _rounding(self) -> float:
        """The variance of a coefficient that rescaling adds."""
        return (1 + 2 * self.ring.dimension / 3) / 12

    def _switching(self, x: Value) -> float:
        """The variance that a key switch at the value's level adds to each slot."""
        digits = sum((prime / self.primes[-1]) ** 2 for prime in self.primes[: x.level + 1])
        return self._slots(self.ring.dimension * SIGMA2 / 12 * digits + self._rounding, x.scale)

    def _tiled(self, vector: Vector | float) -> Vector:
        return ClearEngine.tiled(self, vector)  # type: ignore[arg-type]

    def _input(self, data: Any, op: SlotOp) -> Estimate:
        return Estimate(np.full(self.ring.slots, self._slots(SIGMA2 + 1 / 12, op.scale)), op.range)

    def _ranged(self, x: Value, op: SlotOp) -> Value:
        return replace(x, data=replace(x.data, range=op.range))

    def polynomial(self, x: Value, row: Vector) -> Value:
        """Evaluate a polynomial. Each slot of the result has the error of the worst point of the argument's range."""
        points = np.linspace(-x.data.range, x.data.range, POINTS)
        inside = replace(x, data=Estimate(np.full(POINTS, x.data.variance.max()), x.data.range, points))
        result = super().polynomial(inside, row)
        worst = np.full(self.ring.slots, result.data.variance.max())
        return replace(result, data=Estimate(worst, float(np.abs(result.data.points).max())))

    def _rotate(self, x: Value, steps: int) -> Estimate:
        return Estimate(np.roll(x.data.variance, -steps) + self._switching(x) + self._bias(x), x.data.range)

    def _bias(self, x: Value) -> Vector:
        """The variance that rounding down both polynomials in a key switch adds to each slot."""
        return _roots(self.ring.dimension) / 4 * (1 + 2 * self.ring.dimension / 3) / x.scale**2

    def _dot(self, args: Sequence[Value], op: SlotOp, scale: float) -> Estimate:
        squares = sum((x.data.range / TYPICAL) ** 2 for x in args)
        total = np.full(self.ring.slots, self._slots(1 / 12, scale) * squares)
        for x, vector in zip(args, self.vectors(op), strict=True):
            total += x.data.variance * self._tiled(vector) ** 2
        return Estimate(total, op.range)

    def _times(self, x: Value, number: float, scale: float) -> Estimate:
        rounding = self._slots(1 / 12, scale) / self.ring.dimension  # an encoded number has one coefficient
        if x.data.points is None:
            return Estimate(x.data.variance * number**2 + rounding * x.data.range**2, x.data.range * abs(number))
        points = x.data.points * number
        return Estimate(x.data.variance * number**2 + rounding * x.data.points**2, float(np.abs(points).max()), points)

    def _plus(self, x: Value, vector: Vector | float) -> Estimate:
        largest = float(np.abs(vector).max())
        points = None if x.data.points is None else x.data.points + vector
        return Estimate(x.data.variance + self._slots(1 / 12, x.scale), x.data.range + largest, points)

    def _add(self, x: Value, y: Value) -> Estimate:
        if x.data.points is None:  # terms read different slots, so their errors are independent
            return Estimate(x.data.variance + y.data.variance, x.data.range + y.data.range)
        deviation = np.sqrt(x.data.variance) + np.sqrt(y.data.variance)  # terms of a polynomial have the same argument
        return Estimate(deviation**2, x.data.range + y.data.range, x.data.points + y.data.points)

    def _mul(self, x: Value, y: Value) -> Estimate:
        first, second = (value.data.range if value.data.points is None else np.abs(value.data.points) for value in (x, y))
        deviation = np.sqrt(x.data.variance) * second + np.sqrt(y.data.variance) * first
        points = None if x.data.points is None else x.data.points * y.data.points
        return Estimate(deviation**2, x.data.range * y.data.range, points)

    def _relinearize(self, x: Value) -> Estimate:
        worst = self._bias(x).max()  # small, as products are relinearized at the square of the scale
        return Estimate(x.data.variance + self._switching(x) + worst, x.data.range, x.data.points)

    def _rescale(self, x: Value) -> Estimate:
        scale = x.scale / self.primes[x.level]
        return Estimate(x.data.variance + self._slots(self._rounding, scale), x.data.range, x.data.points)

    def _negate(self, x: Value) -> Any:
        return x.data if x.data.points is None else replace(x.data, points=-x.data.points)


@lru_cache(maxsize=8)
def _roots(dimension: int) -> Vector:
    """|2 / (1 - z)|^2 for every slot: slot j belongs to the root of unity z = exp(i pi 3^j / N)."""
    powers = np.empty(dimension // 2)
    power = 1
    for place in range(len(powers)):
        powers[place] = power
        power = power * 3 % (2 * dimension)
    result: Vector = 1 / np.sin(np.pi * powers / (2 * dimension)) ** 2
    return result


def predict(program: SlotProgram, tables: Tables, row: int) -> Mapping[str, Vector]:
    """Predict the standard deviation of the error in each slot of every output, by label, for one row of the tables."""
    inputs = dict.fromkeys((op.name for op in program.ops if op.kind == "input"), 0.0)
    outputs = NoiseEngine(program, tables, row).run(inputs)
    return {label: np.sqrt(value.data.variance) for label, value in outputs.items()}
