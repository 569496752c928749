"""The engine that runs slot programs on ciphertexts, by SEAL. It holds evaluation keys and plaintexts, never a secret key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hecompile.backends.ckks.engine import Engine, Tables, Vector
from hecompile.backends.ckks.keys import LoadedKey, relin_name, rotation_name
from hecompile.backends.ckks.plaintexts import Plaintexts
from hecompile.backends.ckks.program import SlotOp, SlotProgram
from hecompile.backends.ckks.seal import encoder_of, evaluator_of, parms_id
from hecompile.backends.ckks.value import Value

__all__ = ["Plaintexts", "SealEngine"]


class SealEngine(Engine):
    """Runs a slot program on ciphertexts.

    Args:
        keys: the session's evaluation keys by name.
        plaintexts: the cache of encoded plaintexts, which later runs use again.
    """

    def __init__(
        self, program: SlotProgram, tables: Tables, row: int, keys: Mapping[str, object], plaintexts: Plaintexts | None = None
    ) -> None:
        super().__init__(program, tables, row, [steps for steps in program.steps if rotation_name(program.ring, steps) in keys])
        self._keys, self._plaintexts = keys, plaintexts or Plaintexts()
        self._evaluator, self._encoder = evaluator_of(self.ring), encoder_of(self.ring)

    def _key(self, name: str) -> Any:
        """SEAL's key of this name. Raises `KeyError` if the session has none."""
        loaded = self._keys[name]
        return loaded.key if isinstance(loaded, LoadedKey) else loaded

    def _encoded(self, vector: Vector | float, level: int, scale: float) -> Any:
        """The plaintext of a vector or number. It is never exactly zero, since SEAL refuses products with zero as transparent."""
        if isinstance(vector, float | int):
            number = vector if abs(vector) * scale >= 1 else (1 / scale if vector >= 0 else -1 / scale)
            return self._encoder.encode(float(number), level, scale)
        if not np.abs(vector).max() * scale >= self.ring.dimension:
            vector = np.full(1, self.ring.dimension / scale)  # a constant of N units of the last place, as small as can be encoded
        return self._encoder.encode(np.tile(vector, self.ring.slots // len(vector)), level, scale)

    def _input(self, data: Any, op: SlotOp) -> Any:
        return data

    def _rotate(self, x: Value, steps: int) -> Any:
        return self._evaluator.rotate_vector(x.data, steps, self._key(rotation_name(self.ring, steps)))

    def _dot(self, args: Sequence[Value], op: SlotOp, scale: float) -> Any:
        level = args[0].level
        own = self.row if op.attributes["scaled"] != "none" else -1
        keys = [(op.name, place, own) for place in range(len(args))]
        plains = [self._plaintexts.get(key) for key in keys]
        if any(plain is None for plain in plains):
            size = 8 * self.ring.dimension * (level + 1)
            plains = [self._encoded(vector, level, scale) for vector in self.vectors(op)]
            for key, plain in zip(keys, plains, strict=True):
                self._plaintexts.put(key, plain, size)
        total = self._evaluator.multiply_plain(args[0].data, plains[0])
        for x, plain in zip(args[1:], plains[1:], strict=True):
            self._evaluator.add_inplace(total, self._evaluator.multiply_plain(x.data, plain))
        return total

    def _times(self, x: Value, number: float, scale: float) -> Any:
        return self._evaluator.multiply_plain(x.data, self._encoded(float(number), x.level, scale))

    def _plus(self, x: Value, vector: Vector | float) -> Any:
        if isinstance(vector, np.ndarray) and self.op is not None:
            key = (self.op.name, -1, self.row)
            plain = self._plaintexts.get(key)
            if plain is None:
                plain = self._encoded(vector, x.level, x.data.scale())
                self._plaintexts.put(key, plain, 8 * self.ring.dimension * (x.level + 1))
        else:
            plain = self._encoded(float(vector), x.level, x.data.scale())
        return self._evaluator.add_plain(x.data, plain)

    def _add(self, x: Value, y: Value) -> Any:
        return self._evaluator.add(x.data, y.data)

    def _mul(self, x: Value, y: Value) -> Any:
        return self._evaluator.square(x.data) if x.data is y.data else self._evaluator.multiply(x.data, y.data)

    def _relinearize(self, x: Value) -> Any:
        return self._evaluator.relinearize(x.data, self._key(relin_name(self.ring)))

    def _rescale(self, x: Value) -> Any:
        return self._evaluator.rescale_to_next(x.data)

    def _switch(self, x: Value, level: int) -> Any:
        return self._evaluator.mod_switch_to(x.data, parms_id(self.ring, level))

    def _negate(self, x: Value) -> Any:
        return self._evaluator.negate(x.data)
