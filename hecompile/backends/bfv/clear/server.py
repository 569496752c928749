"""The server's half of a region under `clear`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hecompile.backends.bfv.clear.groups import extend, gather_terms, group_matrix
from hecompile.backends.bfv.clear.sizes import upload_bytes
from hecompile.backends.bfv.packing import Layout
from hecompile.backends.bfv.program import LayerProgram, RegionProgram
from hecompile.backends.bfv.revealed import pack_sums, revealed_bytes, unpack_revealed
from hecompile.backends.bfv.weights import LayerWeights
from hecompile.backends.region_server import RegionServer, Session
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array
from hecompile.ir.linear import correlate

__all__ = ["ClearServer"]

_CHUNK_TERMS = 512


class ClearServer(RegionServer):
    """Computes the sums of the encrypted server on plain integers. They are exact in float64, since they are below 2^53."""

    def __init__(self, program: RegionProgram, weights: list[LayerWeights]) -> None:
        self.max_batch = program.max_batch
        self._program, self._weights = program, weights

    def request_bytes(self, batch: int) -> int:
        return sum(upload_bytes(layer, batch) + revealed_bytes(layer, batch) for layer in self._program.body.layers)

    def evaluate(self, payload: Buffer, batch: int, session: Session | None = None) -> Buffer:
        if len(payload) != self.request_bytes(batch):
            raise ProtocolError(f"region '{self._program.region}', batch {batch}: {len(payload)} bytes")
        data, replies = memoryview(payload), []
        for layer, weights in zip(self._program.body.layers, self._weights, strict=True):
            layout, split, size = layer.layout(batch), upload_bytes(layer, batch), revealed_bytes(layer, batch)
            polynomials = np.frombuffer(data[:split], "<i8").reshape(layout.blocks, layout.uploads, -1)
            if np.abs(polynomials).max(initial=0) > layer.parameters.limit:
                raise ProtocolError(f"layer of {layer.input}: an entry is beyond {layer.parameters.limit}")
            answers = np.stack([_multiply(block, weights.encrypted, layout) for block in polynomials])
            beside = b""
            if layer.split.reveals:
                sums = _revealed_sums(layer, unpack_revealed(data[split : split + size], layer, batch), weights)
                if layer.split.tiles:
                    beside = pack_sums(layer, sums)
                else:
                    answers += layout.scatter(sums)
            replies += [answers.astype("<i8").tobytes(), beside]
            data = data[split + size :]
        return b"".join(replies)


def _revealed_sums(layer: LayerProgram, revealed: Array, weights: LayerWeights) -> Array:
    """What the revealed entries contribute to the results: (E, rows, *grid)."""
    values = (revealed * layer.split.steps(layer.parameters.limit)[0]).astype(np.float64)
    sums: Array = correlate(values, weights.for_revealed(layer.split).astype(np.float64), layer.geometry.taps, layer.geometry.grid)
    return sums.astype(np.int64)


def _multiply(polynomials: Array, weights: npt.NDArray[np.int8], layout: Layout) -> Array:
    """(uploads, N) integers -> the gathered coefficients of the answers, (answers, gather_count)."""
    values, all_terms = polynomials.astype(np.float64), layout.shifts.size
    extended = extend(values, -values)[None]
    sums = np.zeros((layout.answers * layout.coefficient_groups, layout.channel_stride))
    for start in range(0, all_terms, _CHUNK_TERMS):
        terms = range(start, min(start + _CHUNK_TERMS, all_terms))
        matrix = group_matrix(weights, layout, range(layout.answers), terms).astype(np.float64)
        sums += matrix @ gather_terms(extended, layout, terms, layout.channel_stride)[0]
    grouped = sums.astype(np.int64).reshape(layout.answers, layout.coefficient_groups, -1)
    return grouped[:, : layout.packing.p_out, layout.channel_gather].reshape(layout.answers, -1)
