"""The client's half of a `bfv` region: fresh keys, encryption, decryption. The server never imports this module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hecompile.backends.bfv.messages import Sizes, ring_of, sizes
from hecompile.backends.bfv.program import LayerProgram, RegionProgram
from hecompile.backends.bfv.released import pack_released, unpack_sums
from hecompile.backends.bfv.seal import Ring, Words
from hecompile.backends.bfv.secret import SecretKey
from hecompile.backends.bfv.values import Reading, to_polynomials, to_values
from hecompile.backends.region_client import Pending, RegionClient, Secrets
from hecompile.backends.words import pack_bits, unpack_bits
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array
from hecompile.ir.readout import Readout

__all__ = ["BfvClient"]


@dataclass(frozen=True, repr=False)
class _Pending(Pending):
    """What one request leaves behind: its keys, and how to read each layer's answer."""

    keys: dict[Ring, SecretKey]
    readings: list[Reading]
    batch: int


class BfvClient(RegionClient):
    """Encrypts a region's inputs and decrypts its outputs; every request has its own key."""

    def __init__(self, program: RegionProgram, readouts: list[Readout]) -> None:
        self.inputs, self.outputs, self.max_batch = program.inputs, program.outputs, program.max_batch
        self._program, self._readouts = program, readouts
        self._rings = [ring_of(layer) for layer in program.body.layers]

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        named = dict(zip(self.inputs, values, strict=True))
        keys = {ring: SecretKey(ring) for ring in self._rings}
        pending = _Pending(self.reply_bytes(batch), keys, [], batch)
        parts: list[Buffer] = []
        for layer, ring in zip(self._program.body.layers, self._rings, strict=True):
            sent, reading = to_polynomials(layer, named[layer.input], batch)
            words, seeds = keys[ring].encrypt(sent.polynomials.reshape(-1, ring.dimension))
            parts += [pack_bits(words, ring.q_bits), seeds.tobytes(), pack_released(layer, sent.released)]
            pending.readings.append(reading)
        return parts, pending

    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        if not isinstance(pending, _Pending):
            raise ProtocolError("a reply to another backend's request")
        expected = self.reply_bytes(pending.batch)
        if len(reply) != expected:
            raise ProtocolError(f"region '{self._program.region}': a reply of {len(reply)} bytes, expected {expected}")
        answers, sums, start = [], [], 0
        for layer, ring in zip(self._program.body.layers, self._rings, strict=True):
            size = sizes(layer, pending.batch)
            part = memoryview(reply)[start : start + size.down]
            answers.append(_unpack_answer(part, layer, size, ring, pending.batch))
            sums.append(unpack_sums(part[size.down_b + size.down_a :], layer, pending.batch))
            start += size.down
        outputs: list[Array] = []
        layers = zip(self._program.body.layers, self._rings, self._readouts, pending.readings, answers, sums, strict=True)
        for layer, ring, readout, reading, (b, a), clear in layers:
            coefficients = pending.keys[ring].decrypt(b, a)[:, layer.layout(pending.batch).reads]
            outputs += to_values(layer, readout, coefficients, reading, pending.batch, clear)
        return outputs

    def request_bytes(self, batch: int) -> int:
        return sum(sizes(layer, batch).up for layer in self._program.body.layers)

    def reply_bytes(self, batch: int) -> int:
        return sum(sizes(layer, batch).down for layer in self._program.body.layers)


def _unpack_answer(data: memoryview, layer: LayerProgram, size: Sizes, ring: Ring, batch: int) -> tuple[Words, Words]:
    """`b`, known at the read coefficients and zero elsewhere, and `a`: (answers, N) words below q."""
    layout, row = layer.layout(batch), layer.packings[batch - 1]
    read = unpack_bits(data[: size.down_b], size.answers * len(layout.reads), ring.q_bits - row.drop_b)
    rest = unpack_bits(data[size.down_b : size.down_b + size.down_a], size.answers * ring.dimension, ring.q_bits - row.drop_a)
    b = np.zeros((size.answers, ring.dimension), np.uint64)
    b[:, layout.reads] = (read << np.uint64(row.drop_b)).reshape(size.answers, -1)
    a = (rest << np.uint64(row.drop_a)).reshape(size.answers, -1)
    return b % np.uint64(ring.q), a % np.uint64(ring.q)
