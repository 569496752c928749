"""Polynomials of a ciphertext at optimal depth, with exact scales.

A row of a polynomial's table is `[form, ...]`:

- form 0, `c_0 ... c_d` of a value in [-1, 1]: by powers v^(2^j) and halving, depth ceil(log2(d + 1)) (Paterson and Stockmeyer's
  split at powers of two). Every addition happens at one scale by choice of the scales at which coefficients are encoded; the parts
  that are not multiplied further are neither rescaled nor relinearized on their own.
- form 1, `sign p q r s`: the quartic sign (y^2 + p y + q)^2 + r y + s in depth 2 with two products. Any quartic is one, its leading
  coefficient taken into y.
- form 2, `sign r s`: the quadratic sign y^2 + r y + s in depth 1 with one product, in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hecompile.backends.ckks.ring import Ring
from hecompile.backends.ckks.value import Value
from hecompile.errors import ProtocolError

__all__ = ["Arithmetic", "depth_of", "evaluate", "plain", "powers_row", "quadratic_row", "quartic_row"]

Row = npt.NDArray[np.float64]
POWERS, QUARTIC, QUADRATIC = 0.0, 1.0, 2.0


class Arithmetic(Protocol):
    """What a polynomial needs of an engine."""

    @property
    def ring(self) -> Ring: ...
    @property
    def primes(self) -> Sequence[int]: ...
    @property
    def label(self) -> str: ...
    def times(self, x: Value, number: float, scale: float) -> Value: ...
    def plus(self, x: Value, vector: float) -> Value: ...
    def add(self, x: Value, y: Value) -> Value: ...
    def mul(self, x: Value, y: Value) -> Value: ...
    def negate(self, x: Value) -> Value: ...
    def relinearize(self, x: Value) -> Value: ...
    def rescale(self, x: Value) -> Value: ...
    def switch(self, x: Value, level: int) -> Value: ...


def depth_of(degree: int) -> int:
    """Levels that a polynomial takes."""
    return {2: 1, 4: 2}.get(degree, max(1, int(degree).bit_length()))


def powers_row(coefficients: Row) -> Row:
    """A row of form 0."""
    return np.concatenate([[POWERS], coefficients])


def quadratic_row(coefficients: Row) -> tuple[Row, float]:
    """A row of form 2 for c_0 ... c_2, and the factor from x to y. The leading coefficient must not be zero."""
    c0, c1, c2 = (float(each) for each in coefficients)
    factor = float(abs(c2) ** 0.5)
    return np.array([QUADRATIC, np.sign(c2), c1 / factor, c0]), factor


def quartic_row(coefficients: Row) -> tuple[Row, float]:
    """A row of form 1 for c_0 ... c_4, and the factor from x to y. The leading coefficient must not be zero."""
    c0, c1, c2, c3, c4 = (float(each) for each in coefficients)
    sign, factor = float(np.sign(c4)), float(abs(c4) ** 0.25)
    cubic, square, linear = (sign * each / factor**power for each, power in ((c3, 3), (c2, 2), (c1, 1)))
    p = cubic / 2  # (y^2 + p y + q)^2 = y^4 + 2 p y^3 + (p^2 + 2 q) y^2 + 2 p q y + q^2
    q = (square - p * p) / 2
    return np.array([QUARTIC, sign, p, q, sign * (linear - 2 * p * q), c0 - sign * q * q]), factor


def plain(row: Row, x: Row) -> Row:
    """The polynomial of a row on plain numbers."""
    if row[0] == POWERS:
        result: Row = np.polynomial.polynomial.polyval(x, row[1:])
        return result
    if row[0] == QUADRATIC:
        square: Row = row[1] * x * x + row[2] * x + row[3]
        return square
    _, sign, p, q, r, s = row
    quadratic = x * x + p * x + q
    whole: Row = sign * quadratic * quadratic + r * x + s
    return whole


def evaluate(engine: Arithmetic, x: Value, row: Row) -> Value:
    """The polynomial of a row on a value, at the ring's scale."""
    if row[0] == POWERS:
        return _powers(engine, x, row[1:])
    if row[0] == QUADRATIC and len(row) == 4:
        return _quadratic(engine, x, row)
    if row[0] == QUARTIC and len(row) == 6:
        return _quartic(engine, x, row)
    raise ProtocolError(f"layer '{engine.label}': a polynomial of unknown form: compile the artifact again")


def _quadratic(engine: Arithmetic, y: Value, row: Row) -> Value:
    _, sign, r, s = (float(each) for each in row)
    square = engine.mul(y, y)
    if sign < 0:
        square = engine.negate(square)
    result = engine.plus(engine.add(square, engine.times(y, r, y.scale)), s)
    return engine.rescale(engine.relinearize(result))


def _quartic(engine: Arithmetic, y: Value, row: Row) -> Value:
    _, sign, p, q, r, s = (float(each) for each in row)
    square = engine.mul(y, y)
    z = engine.plus(engine.add(square, engine.times(y, p, y.scale)), q)
    z = engine.rescale(engine.relinearize(z))
    fourth = engine.mul(z, z)
    if sign < 0:
        fourth = engine.negate(fourth)
    low = engine.switch(y, z.level)
    result = engine.plus(engine.add(fourth, engine.times(low, r, fourth.scale / low.scale)), s)
    return engine.rescale(engine.relinearize(result))


def _powers(engine: Arithmetic, x: Value, coefficients: Row) -> Value:
    depth = max(1, int(len(coefficients) - 1).bit_length())
    padded = np.concatenate([coefficients, np.zeros((1 << depth) - len(coefficients))])
    powers = [x]  # x^(2^j)
    while len(powers) < depth:
        powers.append(engine.rescale(engine.relinearize(engine.mul(powers[-1], powers[-1]))))
    level = x.level - depth + 1
    if level < 1:
        raise ProtocolError(f"layer '{engine.label}': level {x.level} is too low for depth {depth}: lower the polynomial's degree")
    scale = engine.ring.scale * engine.primes[level]
    return engine.rescale(engine.relinearize(_combined(engine, powers, padded, level, scale)))


def _combined(engine: Arithmetic, powers: list[Value], coefficients: Row, level: int, scale: float) -> Value:
    """The polynomial at a level with a scale, not yet relinearized: low + x^m high, m half the number of coefficients."""
    half = len(coefficients) // 2
    if half == 1:
        x = engine.switch(powers[0], level)
        return engine.plus(engine.times(x, float(coefficients[1]), scale / x.scale), float(coefficients[0]))
    power = engine.switch(powers[half.bit_length() - 1], level)
    if not coefficients[half:].any():
        return _combined(engine, powers, coefficients[:half], level, scale)
    above, inner = level + 1, scale / power.scale
    high = _combined(engine, powers, coefficients[half:], above, inner * engine.primes[above])
    product = engine.mul(power, engine.rescale(engine.relinearize(high)))
    return engine.add(product, _combined(engine, powers, coefficients[:half], level, scale))
