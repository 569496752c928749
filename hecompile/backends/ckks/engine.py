"""What a CKKS library must offer, and the bookkeeping of levels and scales that is the same for all of them.

`Engine` tracks level, scale and keys of every value and refuses what does not fit; an engine of a library fills in what happens to
the data. Without data it verifies (`Engine` itself); `ClearEngine` computes on plain vectors; others predict noise and drive SEAL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.backends.ckks.moduli import primes
from hecompile.backends.ckks.polynomial import evaluate
from hecompile.backends.ckks.program import KINDS, Op, SlotProgram
from hecompile.backends.ckks.value import Value
from hecompile.errors import ProtocolError

__all__ = ["ClearEngine", "Engine", "Tables"]

Vector = npt.NDArray[np.float64]
Tables = Mapping[str, npt.NDArray[Any]]
FAR = 12.0  # ranges: a polynomial is meaningless there
CLOSE = 1e-6  # scales that differ by less are one: primes of 21 bits differ by 2^-7 at least


class Engine:
    """Levels, scales and keys; no data. Subclasses override the methods that begin with an underscore."""

    def __init__(self, program: SlotProgram, tables: Tables, row: int = 0, steps: Sequence[int] | None = None) -> None:
        self.ring, self.program, self.tables, self.row = program.ring, program, tables, row
        self.steps = set(program.steps if steps is None else steps)
        self.primes = primes(program.ring)
        self.label = ""
        self.op: Op | None = None

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Value]:
        """The outputs by label, for the data of the inputs by name.

        Raises:
            ProtocolError: naming the operation, if a level, scale, key or table is not what it must be.
        """
        values, outputs, made = dict[str, Value](), dict[str, Value](), set[str]()
        last = {argument: place for place, op in enumerate(self.program.ops) for argument in op.args}
        for place, op in enumerate(self.program.ops):
            self.op, self.label = op, op.label or self.label
            least, most, attributes = KINDS[op.kind]
            if not least <= len(op.args) <= most or not set(attributes) >= set(op.attributes) or op.name in made:
                raise self.error(op, "has other arguments or attributes than its kind")
            if any(argument not in values for argument in op.args):
                raise self.error(op, "reads a value that is not there yet")
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
                made.add(op.name)
            for argument in op.args:
                if last[argument] == place:
                    values.pop(argument, None)  # nothing reads it any more
        return outputs

    def error(self, op: Op, what: str) -> ProtocolError:
        return ProtocolError(f"slot program, layer '{self.label}': `{op}` {what}: compile the artifact again")

    def apply(self, op: Op, args: list[Value]) -> Value:
        """One operation."""
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
            raise self.error(op, f"wants {error}, which is not there") from error
        return result

    def table(self, name: str, row: int) -> Vector:
        """A row of a table, as float64."""
        found: Vector = self.tables[name.removeprefix("@")][row].astype(np.float64)
        return found

    def timed(self, name: str) -> Vector:
        """The row of the timestep's bin of a table that has a row per bin, or only one."""
        return self.table(name, self.row if len(self.tables[name.removeprefix("@")]) > 1 else 0)

    def vectors(self, op: Op) -> list[Vector]:
        """The plaintexts of a `dot`, one period each: rows of its table, times the scaling of the timestep where it has one."""
        name, first = str(op.attributes["table"]), int(op.attributes["row"])
        rows = [self.table(name, first + place) for place in range(len(op.args))]
        scaling = str(op.attributes["scaled"])
        if scaling == "none":
            return rows
        factors = self.timed(scaling)
        length = max(len(rows[0]), len(factors))
        factors = np.roll(np.tile(factors, length // len(factors)), int(op.attributes["roll"]))
        return [np.tile(row, length // len(row)) * factors for row in rows]

    # what an engine offers

    def rotate(self, x: Value, steps: int) -> Value:
        """Slot s of the result is slot s + steps."""
        self._need_two(x, "rotated")
        if steps not in self.steps:
            raise ProtocolError(f"layer '{self.label}': no key for a rotation by {steps}: open a new session for this artifact")
        return replace(x, data=self._rotate(x, steps))

    def dot(self, args: Sequence[Value], op: Op) -> Value:
        """The sum of the arguments times a vector each. The vectors' scale is what makes the result's as the program says."""
        if len({(x.level, x.scale, x.parts) for x in args}) != 1 or op.scale / args[0].scale < 2:
            raise self.error(op, "adds up values of different levels or scales")
        return replace(args[0], scale=op.scale, data=self._dot(args, op, op.scale / args[0].scale))

    def times(self, x: Value, number: float, scale: float) -> Value:
        """The value times a number that is encoded at a scale."""
        return replace(x, scale=x.scale * scale, data=self._times(x, number, scale))

    def plus(self, x: Value, vector: Vector | float) -> Value:
        """The value plus a plaintext, a vector's period or a number for all slots."""
        return replace(x, data=self._plus(x, vector))

    def add(self, x: Value, y: Value) -> Value:
        if x.level != y.level or abs(x.scale / y.scale - 1) > CLOSE:
            raise ProtocolError(
                f"layer '{self.label}': values of levels {x.level} and {y.level}, scales {x.scale!r} and {y.scale!r} do not add"
            )
        return replace(x, parts=max(x.parts, y.parts), data=self._add(x, y))

    def mul(self, x: Value, y: Value) -> Value:
        """Product of two values, three polynomials until it is relinearized."""
        self._need_two(x, "multiplied")
        self._need_two(y, "multiplied")
        if x.level != y.level:
            raise ProtocolError(f"layer '{self.label}': values of levels {x.level} and {y.level} do not multiply")
        return Value(x.level, x.scale * y.scale, 3, self._mul(x, y))

    def relinearize(self, x: Value) -> Value:
        return x if x.parts == 2 else replace(x, parts=2, data=self._relinearize(x))

    def rescale(self, x: Value) -> Value:
        """Divide by the last prime of the level."""
        self._need_two(x, "rescaled")
        if x.level < 1:
            raise ProtocolError(f"layer '{self.label}': no level is left to rescale: lower the degree of its polynomials")
        return Value(x.level - 1, x.scale / self.primes[x.level], 2, self._rescale(x))

    def switch(self, x: Value, level: int) -> Value:
        """The same value at a lower level."""
        if not 0 <= level <= x.level:
            raise ProtocolError(f"layer '{self.label}': level {x.level} does not switch to {level}")
        return x if level == x.level else replace(x, level=level, data=self._switch(x, level))

    def polynomial(self, x: Value, row: Vector) -> Value:
        """A row of a polynomial's table on a value. A library with polynomials of its own overrides it."""
        return evaluate(self, x, row)

    def negate(self, x: Value) -> Value:
        return replace(x, data=self._negate(x))

    def _need_two(self, x: Value, what: str) -> None:
        if x.parts != 2:
            raise ProtocolError(f"layer '{self.label}': a product is {what} before it is relinearized")

    # what happens to the data: nothing

    def _input(self, data: Any, op: Op) -> Any:
        return None

    def _ranged(self, x: Value, op: Op) -> Value:
        return x

    def _rotate(self, x: Value, steps: int) -> Any:
        return None

    def _dot(self, args: Sequence[Value], op: Op, scale: float) -> Any:
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
    """Plain vectors of slots: the oracle. Data are float64 arrays (..., slots), several elements of a batch at a time."""

    def tiled(self, vector: Vector | float) -> Vector:
        """A period repeated over all slots."""
        row = np.atleast_1d(np.asarray(vector, np.float64))
        return np.tile(row, self.ring.slots // len(row))

    def _input(self, data: Any, op: Op) -> Vector:
        result: Vector = np.asarray(data, np.float64)
        return result

    def _rotate(self, x: Value, steps: int) -> Vector:
        result: Vector = np.roll(x.data, -steps, axis=-1)
        return result

    def _dot(self, args: Sequence[Value], op: Op, scale: float) -> Vector:
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
        """As the base class. Raises `ProtocolError` for values far outside the polynomial's range, where it explodes."""
        if self.op is not None and self.op.args:
            bound, largest = self.program.op(self.op.args[0]).range, float(np.abs(x.data).max())
            if not largest <= FAR * bound:
                raise ProtocolError(
                    f"layer '{self.label}': a value of {largest:.3g} where its polynomial holds to {bound:.3g}: compile with "
                    "--calibration of calls like these, a higher --degree, or the layer's norm exact"
                )
        return super().polynomial(x, row)
