"""The client's half of a region under `clear`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hecompile.backends.bfv.clear.sizes import WORD_BYTES, reply_words, upload_bytes
from hecompile.backends.bfv.program import RegionProgram
from hecompile.backends.bfv.revealed import pack_revealed, revealed_bytes, sums_bytes, unpack_sums
from hecompile.backends.bfv.values import Reading, to_polynomials, to_values
from hecompile.backends.region_client import Pending, RegionClient, Secrets
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.ir.dequantizer import Dequantizer
from hecompile.ir.halves import Array

__all__ = ["ClearClient"]


@dataclass(frozen=True, repr=False)
class _Pending(Pending):
    readings: list[Reading]
    batch: int


class ClearClient(RegionClient):
    """Sends the polynomials that `bfv` would encrypt."""

    def __init__(self, program: RegionProgram, dequantizers: list[Dequantizer]) -> None:
        self.inputs, self.outputs, self.max_batch = program.inputs, program.outputs, program.max_batch
        self._program, self._dequantizers = program, dequantizers

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        named = dict(zip(self.inputs, values, strict=True))
        pending = _Pending(self.reply_bytes(batch), [], batch)
        parts: list[Buffer] = []
        for layer in self._program.body.layers:
            sent, reading = to_polynomials(layer, named[layer.input], batch)
            parts += [sent.polynomials.astype("<i8").tobytes(), pack_revealed(layer, sent.revealed)]
            pending.readings.append(reading)
        return parts, pending

    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        if not isinstance(pending, _Pending) or len(reply) != self.reply_bytes(pending.batch):
            raise ProtocolError(f"region '{self._program.region}': a reply of {len(reply)} bytes, which no request gets")
        data, outputs = memoryview(reply), list[Array]()
        for layer, dequantizer, reading in zip(self._program.body.layers, self._dequantizers, pending.readings, strict=True):
            split = WORD_BYTES * reply_words(layer.layout(pending.batch))
            end = split + sums_bytes(layer, pending.batch)
            words, sums = np.frombuffer(data[:split], "<i8"), unpack_sums(data[split:end], layer, pending.batch)
            outputs += to_values(layer, dequantizer, words, reading, pending.batch, sums)
            data = data[end:]
        return outputs

    def request_bytes(self, batch: int) -> int:
        return sum(upload_bytes(layer, batch) + revealed_bytes(layer, batch) for layer in self._program.body.layers)

    def reply_bytes(self, batch: int) -> int:
        layers = self._program.body.layers
        return sum(WORD_BYTES * reply_words(layer.layout(batch)) + sums_bytes(layer, batch) for layer in layers)
