"""Engines run slot programs. All of them share the bookkeeping of levels, scales and keys.

`Engine` tracks level, scale and keys of every value and refuses what does not fit. Its subclasses say what happens to the data:
`Engine` itself has no data and only verifies, `ClearEngine` computes on plain vectors, `NoiseEngine` (`noise.py`) predicts errors,
and `SealEngine` (`seal_engine.py`) computes on ciphertexts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.backends.ckks.polynomial import evaluate
from hecompile.backends.ckks.program import KINDS, SlotOp, SlotProgram
from hecompile.backends.ckks.ring import primes
from hecompile.backends.ckks.value import Value
from hecompile.errors import ProtocolError

__all__ = ["ClearEngine", "Engine", "Tables"]

Vector = npt.NDArray[np.float64]
Tables = Mapping[str, npt.NDArray[Any]]
FAR = 12.0  # times a polynomial's range: beyond it the polynomial is meaningless
CLOSE = 1e-6  # relative difference of scales that count as equal; other primes make scales that differ by far more


class Engine:
    """Checks a slot program by its levels, scales and keys, without data.

    Subclasses override the methods that begin with an underscore to compute on data.

    Args:
        row: the row that is read of timestep tables.
        steps: the rotations that there are keys for; all that the program uses by default.
    """

    def __init__(self, program: SlotProgram, tables: Tables, row: int = 0, steps: Sequence[int] | None = None) -> None:
        self.ring, self.program, self.tables, self.row = program.ring, program, tables, row
        self.steps = set(program.steps if steps is None else steps)
        self.primes = primes(program.ring)
        self.label = ""
        self.op: SlotOp | None = None

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Value]:
        """Run the program on the data of its inputs, by name, and return its outputs by label.

        Raises:
            ProtocolError: naming the operation, if a level, scale, key or table does not fit.
        """
        values, outputs, names = dict[str, Value](), dict[str, Value](), set[str]()
        last = {argument: place for place, op in enumerate(self.program.ops) for argument in op.args}
        for place, op in enumerate(self.program.ops):
            self.op, self.label = op, op.label or self.label
            least, most, attributes = KINDS[op.kind]
            if not least <= len(op.args) <= most or not set(attributes) >= set(op.attributes) or op.name in names:
                raise self.error(op, "has arguments or attributes that its kind does not have, or defines a name twice")
            if any(argument not in values for argument in op.args):
                raise self.error(op, "reads a value that no earlier operation makes")
            if op.kind == "input":
                result = Value(op.level, op.scale, 2, self._input(inputs[op.name], op))
            else:
                result = self.apply(op, [values[argument] for argument in op.args])
            if result.level != op.level or abs(result.scale / op.scale - 1) > CLOSE or not 0 <= op.level <= self.ring.depth:
                raise self.error(op, f"comes out at level {result.level}, scale {result.scale!r}")
            result = self._ranged(result, op)
            if op.kind == "output":
                outputs[op.label] = result
            else:
                values[op.name] = result
                names.add(op.name)
            for argument in op.args:
                if last[argument] == place:
                    values.pop(argument, None)  # no later operation reads it
        return outputs

    def error(self, op: SlotOp, what: str) -> ProtocolError:
        """The error that says `what` is wrong with an operation, and names its layer."""
        return ProtocolError(f"slot program, layer '{self.label}': `{op}` {what}: compile the artifact again")

    def apply(self, op: SlotOp, args: list[Value]) -> Value:
        """Return the result of one operation on its arguments. Raises `ProtocolError` if they do not fit."""
        attributes = op.attributes
        try:
            if op.kind == "rotate":
                return self.rotate(args[0], int(attributes["steps"]))
            if op.kind == "dot":
                return self.dot(args, op)
            if op.kind == "plus":
                return self.plus(args[0], self.timed(str(attributes["table"])))
            if op.kind == "switch":
                return self.switch(args[0], op.level)
            if op.kind == "polynomial":
                return self.polynomial(args[0], self.timed(str(attributes["table"])))
            if op.kind == "output":
                return args[0]
            result: Value = getattr(self, op.kind)(*args)
        except (KeyError, IndexError) as error:
            raise self.error(op, f"needs {error}, which does not exist") from error
        return result

    def table(self, name: str, row: int) -> Vector:
        """Row `row` of a table, as float64."""
        vector: Vector = self.tables[name.removeprefix("@")][row].astype(np.float64)
        return vector

    def timed(self, name: str) -> Vector:
        """The row for the current timestep bin of a table, or its only row if it does not depend on the timestep."""
        return self.table(name, self.row if len(self.tables[name.removeprefix("@")]) > 1 else 0)

    def vectors(self, op: SlotOp) -> list[Vector]:
        """The plaintexts of a `dot`, one period each: rows of its table, times the timestep's row of its scaling table, if any."""
        name, first = str(op.attributes["table"]), int(op.attributes["row"])
        rows = [self.table(name, first + place) for place in range(len(op.args))]
        scaling = str(op.attributes["scaled"])
        if scaling == "none":
            return rows
        factors = self.timed(scaling)
        length = max(len(rows[0]), len(factors))
        factors = np.roll(np.tile(factors, length // len(factors)), int(op.attributes["roll"]))
        return [np.tile(row, length // len(row)) * factors for row in rows]

    # operations, checked

    def rotate(self, x: Value, steps: int) -> Value:
        """Rotate the slots: slot s of the result is slot s + steps of `x`."""
        self._need_two(x, "rotated")
        if steps not in self.steps:
            raise ProtocolError(f"layer '{self.label}': no key for a rotation by {steps}: open a new session for this artifact")
        return replace(x, data=self._rotate(x, steps))

    def dot(self, args: Sequence[Value], op: SlotOp) -> Value:
        """The sum of the arguments times one vector each.

        Vectors are encoded at the scale that gives the result the scale of `op`.
        """
        if len({(x.level, x.scale, x.parts) for x in args}) != 1 or op.scale / args[0].scale < 2:
            raise self.error(op, "adds up values of different levels or scales, or its scale is too small")
        return replace(args[0], scale=op.scale, data=self._dot(args, op, op.scale / args[0].scale))

    def times(self, x: Value, number: float, scale: float) -> Value:
        """The value times a number, which is encoded at `scale`."""
        return replace(x, scale=x.scale * scale, data=self._times(x, number, scale))

    def plus(self, x: Value, vector: Vector | float) -> Value:
        """The value plus a plaintext: one period of a vector, or one number for all slots."""
        return replace(x, data=self._plus(x, vector))

    def add(self, x: Value, y: Value) -> Value:
        """The sum of two values of one level and scale."""
        if x.level != y.level or abs(x.scale / y.scale - 1) > CLOSE:
            raise ProtocolError(
                f"layer '{self.label}': values of levels {x.level} and {y.level}, scales {x.scale!r} and {y.scale!r} do not add"
            )
        return replace(x, parts=max(x.parts, y.parts), data=self._add(x, y))

    def mul(self, x: Value, y: Value) -> Value:
        """The product of two values of one level. It has three polynomials until it is relinearized."""
        self._need_two(x, "multiplied")
        self._need_two(y, "multiplied")
        if x.level != y.level:
            raise ProtocolError(f"layer '{self.label}': values of levels {x.level} and {y.level} cannot be multiplied")
        return Value(x.level, x.scale * y.scale, 3, self._mul(x, y))

    def relinearize(self, x: Value) -> Value:
        """Bring a product of three polynomials back to two. A value of two polynomials is returned as it is."""
        return x if x.parts == 2 else replace(x, parts=2, data=self._relinearize(x))

    def rescale(self, x: Value) -> Value:
        """Divide by the last prime of the value's level, which is one lower afterwards."""
        self._need_two(x, "rescaled")
        if x.level < 1:
            raise ProtocolError(f"layer '{self.label}': no level is left to rescale: lower the degree of its polynomials")
        return Value(x.level - 1, x.scale / self.primes[x.level], 2, self._rescale(x))

    def switch(self, x: Value, level: int) -> Value:
        """The same value at a lower level, with its scale unchanged."""
        if not 0 <= level <= x.level:
            raise ProtocolError(f"layer '{self.label}': a value at level {x.level} cannot be switched to level {level}")
        return x if level == x.level else replace(x, level=level, data=self._switch(x, level))

    def polynomial(self, x: Value, row: Vector) -> Value:
        """Evaluate the polynomial that a row of a polynomial's table describes. Engines may do this in their own way."""
        return evaluate(self, x, row)

    def negate(self, x: Value) -> Value:
        """The value times -1."""
        return replace(x, data=self._negate(x))

    def _need_two(self, x: Value, what: str) -> None:
        """Raise `ProtocolError` if a value still has the three polynomials of a product."""
        if x.parts != 2:
            raise ProtocolError(f"layer '{self.label}': a product is {what} before it is relinearized")

    # The methods below return the data of a result, here none. Subclasses override them.

    def _input(self, data: Any, op: SlotOp) -> Any:
        return None

    def _ranged(self, x: Value, op: SlotOp) -> Value:
        return x

    def _rotate(self, x: Value, steps: int) -> Any:
        return None

    def _dot(self, args: Sequence[Value], op: SlotOp, scale: float) -> Any:
        self.vectors(op)
        return None

    def _times(self, x: Value, number: float, scale: float) -> Any:
        return None

    def _plus(self, x: Value, vector: Vector | float) -> Any:
        return None

    def _add(self, x: Value, y: Value) -> Any:
        return None

    def _mul(self, x: Value, y: Value) -> Any:
        return None

    def _relinearize(self, x: Value) -> Any:
        return x.data

    def _rescale(self, x: Value) -> Any:
        return x.data

    def _switch(self, x: Value, level: int) -> Any:
        return x.data

    def _negate(self, x: Value) -> Any:
        return None


class ClearEngine(Engine):
    """Computes on plain vectors of slots, as the reference for encrypted runs.

    Data are float64 arrays (..., slots), so that all elements of a batch can be computed at a time.
    """

    def tiled(self, vector: Vector | float) -> Vector:
        """One period of a vector, or a number, repeated over all slots: (slots)."""
        row = np.atleast_1d(np.asarray(vector, np.float64))
        return np.tile(row, self.ring.slots // len(row))

    def _input(self, data: Any, op: SlotOp) -> Vector:
        result: Vector = np.asarray(data, np.float64)
        return result

    def _rotate(self, x: Value, steps: int) -> Vector:
        result: Vector = np.roll(x.data, -steps, axis=-1)
        return result

    def _dot(self, args: Sequence[Value], op: SlotOp, scale: float) -> Vector:
        result: Vector = np.zeros_like(args[0].data)
        for x, vector in zip(args, self.vectors(op), strict=True):
            result += x.data * self.tiled(vector)
        return result

    def _times(self, x: Value, number: float, scale: float) -> Vector:
        result: Vector = x.data * number
        return result

    def _plus(self, x: Value, vector: Vector | float) -> Vector:
        result: Vector = x.data + self.tiled(vector)
        return result

    def _add(self, x: Value, y: Value) -> Vector:
        result: Vector = x.data + y.data
        return result

    def _mul(self, x: Value, y: Value) -> Vector:
        result: Vector = x.data * y.data
        return result

    def _negate(self, x: Value) -> Vector:
        result: Vector = -x.data
        return result

    def polynomial(self, x: Value, row: Vector) -> Value:
        """Evaluate a polynomial as the base class does.

        Raises:
            ProtocolError: if a value lies far outside the polynomial's range, where the polynomial is meaningless.
        """
        if self.op is not None and self.op.args:
            bound, largest = self.program.op(self.op.args[0]).range, float(np.abs(x.data).max())
            if not largest <= FAR * bound:
                raise ProtocolError(
                    f"layer '{self.label}': a value of {largest:.3g}, but its polynomial is valid up to {bound:.3g}: compile with "
                    "--calibration of calls like these, a higher --degree, or the layer's norm exact"
                )
        return super().polynomial(x, row)
