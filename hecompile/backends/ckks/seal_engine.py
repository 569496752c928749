"""The engine of SEAL. Holds evaluation keys and plaintexts; there is no field, argument or import for a secret key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tenseal.sealapi as seal

from hecompile.backends.ckks.engine import Engine, Tables, Value, Vector
from hecompile.backends.ckks.keys import LoadedKey, relin_name, rotation_name
from hecompile.backends.ckks.plaintexts import Plaintexts
from hecompile.backends.ckks.program import Op, SlotProgram
from hecompile.backends.ckks.seal import encoder_of, evaluator_of, parms_id

__all__ = ["Plaintexts", "SealEngine"]


class SealEngine(Engine):
    """Ciphertexts. `keys` are those of a session by name; `plaintexts` outlive a run."""

    def __init__(
        self, program: SlotProgram, tables: Tables, row: int, keys: Mapping[str, object], plaintexts: Plaintexts | None = None
    ) -> None:
        super().__init__(program, tables, row, [each for each in program.steps if rotation_name(program.ring, each) in keys])
        self._keys, self._plaintexts = keys, plaintexts or Plaintexts()
        self._evaluator, self._encoder = evaluator_of(self.ring), encoder_of(self.ring)

    def _key(self, name: str) -> Any:
        found = self._keys[name]
        return found.key if isinstance(found, LoadedKey) else found

    def _encoded(self, vector: Vector | float, level: int, scale: float) -> Any:
        """A plaintext; never zero, which SEAL refuses as transparent."""
        plain = seal.Plaintext()
        if isinstance(vector, float | int):
            number = vector if abs(vector) * scale >= 1 else (1 / scale if vector >= 0 else -1 / scale)
            self._encoder.encode(float(number), parms_id(self.ring, level), scale, plain)
            return plain
        if not np.abs(vector).max() * scale >= self.ring.dimension:
            vector = np.full(1, self.ring.dimension / scale)  # still only N units of the last place
        whole = np.tile(vector, self.ring.slots // len(vector))
        self._encoder.encode(whole.tolist(), parms_id(self.ring, level), scale, plain)
        return plain

    def _input(self, data: Any, op: Op) -> Any:
        return data

    def _rotate(self, x: Value, steps: int) -> Any:
        result = seal.Ciphertext()
        self._evaluator.rotate_vector(x.data, steps, self._key(rotation_name(self.ring, steps)), result)
        return result

    def _dot(self, args: Sequence[Value], op: Op, scale: float) -> Any:
        level = args[0].level
        own = self.row if op.attributes["scaled"] != "none" else -1
        keys = [(op.name, place, own) for place in range(len(args))]
        plains = [self._plaintexts.get(key) for key in keys]
        if any(plain is None for plain in plains):
            size = 8 * self.ring.dimension * (level + 1)
            plains = [self._encoded(vector, level, scale) for vector in self.vectors(op)]
            for key, plain in zip(keys, plains, strict=True):
                self._plaintexts.put(key, plain, size)
        total, product = seal.Ciphertext(), seal.Ciphertext()
        for place, (x, plain) in enumerate(zip(args, plains, strict=True)):
            self._evaluator.multiply_plain(x.data, plain, product if place else total)
            if place:
                self._evaluator.add_inplace(total, product)
        return total

    def _times(self, x: Value, number: float, scale: float) -> Any:
        result = seal.Ciphertext()
        self._evaluator.multiply_plain(x.data, self._encoded(float(number), x.level, scale), result)
        return result

    def _plus(self, x: Value, vector: Vector | float) -> Any:
        result = seal.Ciphertext()
        if isinstance(vector, np.ndarray) and self.op is not None:
            key = (self.op.name, -1, self.row)
            plain = self._plaintexts.get(key)
            if plain is None:
                plain = self._encoded(vector, x.level, x.data.scale)
                self._plaintexts.put(key, plain, 8 * self.ring.dimension * (x.level + 1))
        else:
            plain = self._encoded(float(vector), x.level, x.data.scale)
        self._evaluator.add_plain(x.data, plain, result)
        return result

    def _add(self, x: Value, y: Value) -> Any:
        result = seal.Ciphertext()
        self._evaluator.add(x.data, y.data, result)
        return result

    def _mul(self, x: Value, y: Value) -> Any:
        result = seal.Ciphertext()
        if x.data is y.data:
            self._evaluator.square(x.data, result)
        else:
            self._evaluator.multiply(x.data, y.data, result)
        return result

    def _relinearize(self, x: Value) -> Any:
        result = seal.Ciphertext()
        self._evaluator.relinearize(x.data, self._key(relin_name(self.ring)), result)
        return result

    def _rescale(self, x: Value) -> Any:
        result = seal.Ciphertext()
        self._evaluator.rescale_to_next(x.data, result)
        return result

    def _switch(self, x: Value, level: int) -> Any:
        result = seal.Ciphertext()
        self._evaluator.mod_switch_to(x.data, parms_id(self.ring, level), result)
        return result

    def _negate(self, x: Value) -> Any:
        result = seal.Ciphertext()
        self._evaluator.negate(x.data, result)
        return result
