"""The `clear` backend: plain polynomials go where `bfv` sends ciphertexts. Nothing is hidden from the server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hecompile.backends.base import Guarantee
from hecompile.backends.bfv.groups import extend, gather_terms, group_matrix
from hecompile.backends.bfv.integer import IntegerBackend
from hecompile.backends.bfv.packing import Layout
from hecompile.backends.bfv.parameters import Parameters
from hecompile.backends.bfv.program import LayerProgram, RegionProgram, judge_messages, region_program
from hecompile.backends.bfv.released import pack_released, pack_sums, released_bytes, sums_bytes, unpack_released, unpack_sums
from hecompile.backends.bfv.values import Reading, to_polynomials, to_values
from hecompile.backends.bfv.weights import LayerWeights, weights_of
from hecompile.backends.readouts import readouts
from hecompile.backends.region_client import Pending, RegionClient, Secrets
from hecompile.backends.region_server import RegionServer, Session
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array, ClientHalf, ServerHalf
from hecompile.ir.linear import correlate
from hecompile.ir.readout import Readout

__all__ = ["ClearBackend"]

_WORD_BYTES = 8
_CHUNK_TERMS = 512


class ClearBackend(IntegerBackend):
    """Simulation: exact, and in the clear."""

    name = "clear"
    guarantee = Guarantee(encrypts=False)

    def prime(self, parameters: Parameters) -> int:
        return (1 << parameters.q_bits) - 1  # no modulus is used

    def clear_inputs(self, half: ClientHalf) -> tuple[str, ...]:
        return region_program(half).inputs

    def check_security(self, half: ClientHalf, security_bits: int) -> list[str]:
        return [f"region '{region_program(half).region}' is not encrypted: backend 'clear' is a simulation"]

    def check_proofs(self, half: ServerHalf) -> list[str]:
        return []

    def load_client(self, half: ClientHalf) -> RegionClient:
        program = region_program(half)
        client = ClearClient(program, readouts(half, program.region, program.body.layers))
        judge_messages(client, program)
        return client

    def load_server(self, half: ServerHalf) -> RegionServer:
        program = region_program(half)
        return ClearServer(program, weights_of(half, program))


@dataclass(frozen=True, repr=False)
class _Pending(Pending):
    readings: list[Reading]
    batch: int


class ClearClient(RegionClient):
    """Sends polynomials as they are."""

    def __init__(self, program: RegionProgram, readouts: list[Readout]) -> None:
        self.inputs, self.outputs, self.max_batch = program.inputs, program.outputs, program.max_batch
        self._program, self._readouts = program, readouts

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        named = dict(zip(self.inputs, values, strict=True))
        pending = _Pending(self.reply_bytes(batch), [], batch)
        parts: list[Buffer] = []
        for layer in self._program.body.layers:
            sent, reading = to_polynomials(layer, named[layer.input], batch)
            parts += [sent.polynomials.astype("<i8").tobytes(), pack_released(layer, sent.released)]
            pending.readings.append(reading)
        return parts, pending

    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        if not isinstance(pending, _Pending) or len(reply) != self.reply_bytes(pending.batch):
            raise ProtocolError(f"region '{self._program.region}': a reply of {len(reply)} bytes is not an answer")
        data, outputs = memoryview(reply), list[Array]()
        for layer, readout, reading in zip(self._program.body.layers, self._readouts, pending.readings, strict=True):
            split = _WORD_BYTES * _reply_words(layer.layout(pending.batch))
            end = split + sums_bytes(layer, pending.batch)
            words, sums = np.frombuffer(data[:split], "<i8"), unpack_sums(data[split:end], layer, pending.batch)
            outputs += to_values(layer, readout, words, reading, pending.batch, sums)
            data = data[end:]
        return outputs

    def request_bytes(self, batch: int) -> int:
        return sum(_upload_bytes(layer, batch) + released_bytes(layer, batch) for layer in self._program.body.layers)

    def reply_bytes(self, batch: int) -> int:
        layers = self._program.body.layers
        return sum(_WORD_BYTES * _reply_words(layer.layout(batch)) + sums_bytes(layer, batch) for layer in layers)


class ClearServer(RegionServer):
    """The same sums as the encrypted server's, on plain integers (exact in doubles: below 2^53)."""

    def __init__(self, program: RegionProgram, weights: list[LayerWeights]) -> None:
        self.max_batch = program.max_batch
        self._program, self._weights = program, weights

    def request_bytes(self, batch: int) -> int:
        return sum(_upload_bytes(layer, batch) + released_bytes(layer, batch) for layer in self._program.body.layers)

    def evaluate(self, payload: bytes, batch: int, session: Session | None = None) -> bytes:
        if len(payload) != self.request_bytes(batch):
            raise ProtocolError(f"region '{self._program.region}', batch {batch}: {len(payload)} bytes")
        data, replies = memoryview(payload), []
        for layer, weights in zip(self._program.body.layers, self._weights, strict=True):
            layout, split, size = layer.layout(batch), _upload_bytes(layer, batch), released_bytes(layer, batch)
            polynomials = np.frombuffer(data[:split], "<i8").reshape(layout.blocks, layout.uploads, -1)
            if np.abs(polynomials).max(initial=0) > layer.parameters.limit:
                raise ProtocolError(f"layer of {layer.input}: an entry is beyond {layer.parameters.limit}")
            answers = np.stack([_multiply(block, weights.encrypted, layout) for block in polynomials])
            beside = b""
            if layer.split.shows:
                sums = _released_sums(layer, unpack_released(data[split : split + size], layer, batch), weights)
                if layer.split.tiles:
                    beside = pack_sums(layer, sums)
                else:
                    answers += layout.unread(sums)
            replies += [answers.astype("<i8").tobytes(), beside]
            data = data[split + size :]
        return b"".join(replies)


def _upload_bytes(layer: LayerProgram, batch: int) -> int:
    layout = layer.layout(batch)
    return _WORD_BYTES * layout.blocks * layout.uploads * layout.packing.dimension


def _reply_words(layout: Layout) -> int:
    return layout.blocks * layout.answers * layout.read_count


def _released_sums(layer: LayerProgram, released: Array, weights: LayerWeights) -> Array:
    """What the released entries add to the results: (E, rows, *grid)."""
    values = (released * layer.split.steps(layer.parameters.limit)[0]).astype(np.float64)
    sums: Array = correlate(values, weights.shown(layer.split).astype(np.float64), layer.geometry.taps, layer.geometry.grid)
    return sums.astype(np.int64)


def _multiply(polynomials: Array, weights: npt.NDArray[np.int8], layout: Layout) -> Array:
    """(uploads, N) integers -> where the answers are read (answers, reads)."""
    values, all_terms = polynomials.astype(np.float64), layout.shifts.size
    extended = extend(values, -values)[None]
    sums = np.zeros((layout.answers * layout.groups, layout.area))
    for start in range(0, all_terms, _CHUNK_TERMS):
        terms = range(start, min(start + _CHUNK_TERMS, all_terms))
        matrix = group_matrix(weights, layout, range(layout.answers), terms).astype(np.float64)
        sums += matrix @ gather_terms(extended, layout, terms, layout.area)[0]
    grouped = sums.astype(np.int64).reshape(layout.answers, layout.groups, -1)
    return grouped[:, : layout.packing.p_out, layout.area_reads].reshape(layout.answers, -1)
