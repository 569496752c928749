"""Evaluates polynomials of a ciphertext at the least depth, with exact scales.

A row of a polynomial's table is `[form, ...]`:

- Form 0, `c_0 ... c_d`, is the polynomial with these coefficients of a value in [-1, 1]. It is evaluated by powers v^(2^j) and by
  halving, at depth ceil(log2(d + 1)) (Paterson and Stockmeyer's split at powers of two). Coefficients are encoded at scales for
  which both sides of every addition have the same scale. Parts that are only added are rescaled and relinearized together.
- Form 1, `sign p q r s`, is the quartic sign (y^2 + p y + q)^2 + r y + s, at depth 2 with two products. Every quartic can be
  written like this, when the size of its leading coefficient is taken into y.
- Form 2, `sign r s`, is the quadratic sign y^2 + r y + s, at depth 1 with one product, in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hecompile.backends.ckks.ring import CkksRing
from hecompile.backends.ckks.value import Value
from hecompile.errors import ProtocolError

__all__ = ["Arithmetic", "depth_of", "evaluate", "plain", "powers_row", "quadratic_row", "quartic_row"]

Row = npt.NDArray[np.float64]
POWERS, QUARTIC, QUADRATIC = 0.0, 1.0, 2.0


class Arithmetic(Protocol):
    """The operations of an engine that evaluating a polynomial needs."""

    @property
    def ring(self) -> CkksRing: ...
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
    """How many levels a polynomial of this degree takes."""
    return {2: 1, 4: 2}.get(degree, max(1, int(degree).bit_length()))


def powers_row(coefficients: Row) -> Row:
    """The row of form 0 for coefficients c_0 ... c_d."""
    return np.concatenate([[POWERS], coefficients])


def quadratic_row(coefficients: Row) -> tuple[Row, float]:
    """The row of form 2 for c_0 ... c_2, and the factor with y = factor x. The leading coefficient must not be zero."""
    c0, c1, c2 = map(float, coefficients)
    factor = float(abs(c2) ** 0.5)
    return np.array([QUADRATIC, np.sign(c2), c1 / factor, c0]), factor


def quartic_row(coefficients: Row) -> tuple[Row, float]:
    """The row of form 1 for c_0 ... c_4, and the factor with y = factor x. The leading coefficient must not be zero."""
    c0, c1, c2, c3, c4 = map(float, coefficients)
    sign, factor = float(np.sign(c4)), float(abs(c4) ** 0.25)
    cubic, square, linear = (sign * number / factor**power for number, power in ((c3, 3), (c2, 2), (c1, 1)))
    p = cubic / 2  # (y^2 + p y + q)^2 = y^4 + 2 p y^3 + (p^2 + 2 q) y^2 + 2 p q y + q^2
    q = (square - p * p) / 2
    return np.array([QUARTIC, sign, p, q, sign * (linear - 2 * p * q), c0 - sign * q * q]), factor


def plain(row: Row, x: Row) -> Row:
    """Evaluate the polynomial of a row on plain numbers; the result has the shape of `x`."""
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
    """Evaluate the polynomial of a row on a value. The result has about the ring's scale.

    Raises:
        ProtocolError: if the row has no known form, or the value has too few levels.
    """
    if row[0] == POWERS:
        return _powers(engine, x, row[1:])
    if row[0] == QUADRATIC and len(row) == 4:
        return _quadratic(engine, x, row)
    if row[0] == QUARTIC and len(row) == 6:
        return _quartic(engine, x, row)
    raise ProtocolError(f"layer '{engine.label}': a polynomial has an unknown form: compile the artifact again")


def _quadratic(engine: Arithmetic, y: Value, row: Row) -> Value:
    """Evaluate form 2."""
    _, sign, r, s = map(float, row)
    square = engine.mul(y, y)
    if sign < 0:
        square = engine.negate(square)
    result = engine.plus(engine.add(square, engine.times(y, r, y.scale)), s)
    return engine.rescale(engine.relinearize(result))


def _quartic(engine: Arithmetic, y: Value, row: Row) -> Value:
    """Evaluate form 1."""
    _, sign, p, q, r, s = map(float, row)
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
    """Evaluate form 0. Raises `ProtocolError` if the value has too few levels."""
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
    """low + x^m high at the given level and scale, not yet relinearized, where m is half the number of coefficients."""
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
