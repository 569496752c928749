"""A region's layers divided among several servers (shards), each with some of the output channels of every layer.

An answer holds `p_out` output channels, and a reply has the words of one answer after those of another. A shard computes some of
each layer's answers: its layers have fewer rows, but get the same requests and run the same code. `BfvJoin` puts the words of the
shards' replies where a single server would have put them:

    shard 0: b of answers 0, 1   a of answers 0, 1
    shard 1: b of answers 2, 3   a of answers 2, 3
    reply:   b of answers 0, 1, 2, 3   a of answers 0, 1, 2, 3          (all of it for every block, and for every seed)

A layer with fewer answers than shards is computed by some of them. Every shard expands `a` as for the whole region.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod

import numpy as np
import numpy.typing as npt

from hecompile.backends.bfv.expansion import contexts
from hecompile.backends.bfv.messages import FIRST, LATER, LayerSizes, core_layout, layer_sizes, mode_bytes
from hecompile.backends.bfv.program import LayerProgram, RegionBody, RegionProgram
from hecompile.backends.bfv.server import BfvServer
from hecompile.backends.bfv.weights import LayerWeights
from hecompile.backends.region_server import RegionShard, ReplyJoin, Session
from hecompile.backends.words import pack_bits, packed_bytes, unpack_bits
from hecompile.buffers import Buffer
from hecompile.errors import InternalError, ProtocolError
from hecompile.ir.linear import Part

__all__ = ["BfvJoin", "BfvShard"]

_KEPT = 64  # how many results of `_sizes` are kept: batch sizes times modes
Cuts = tuple[range, ...]  # the answers of each layer that a shard evaluates


def _cuts(program: RegionProgram, batch: int, index: int, count: int) -> Cuts:
    """The answers of each layer that a shard computes at a batch size. Layers with one answer go to the shards in turn."""
    cuts = []
    for place, layer in enumerate(program.body.layers):
        answers, turn = layer.layout(batch).answers, (index + place) % count
        cuts.append(range(answers * turn // count, answers * (turn + 1) // count))
    return tuple(cuts)


def _sliced(layer: LayerProgram, batch: int, answers: range, alike: Sequence[bool]) -> LayerProgram:
    """The layer with the rows of these answers only. A last answer that is not full gets rows of zeros.

    `alike` says for each batch size whether the shard has the same rows there. At other batch sizes the result is not used.
    """
    packing = layer.packings[batch - 1]
    geometry = replace(
        layer.geometry, outputs=len(answers) * packing.p_out, up=(1, 1), out_size=layer.geometry.grid
    )  # rows are those of the layer before depth-to-space
    packings = tuple(row if same else packing for row, same in zip(layer.packings, alike, strict=True))
    parts = (Part(layer.parts[0].output, geometry.outputs),)
    return replace(layer, geometry=geometry, parts=parts, packings=packings)


def _rows(weights: npt.NDArray[np.int8], answers: range, p_out: int) -> npt.NDArray[np.int8]:
    """The rows of some answers, with rows of zeros where the last answer is not full."""
    rows = weights[answers.start * p_out : answers.stop * p_out]
    missing = len(answers) * p_out - len(rows)
    return np.pad(rows, ((0, missing), (0, 0), (0, 0))) if missing else np.ascontiguousarray(rows)


def _divided(program: RegionProgram, batch: int, cuts: Cuts, alike: Sequence[bool]) -> RegionProgram:
    """The region with the answers of one shard, without layers of which it has none."""
    layers = tuple(_sliced(layer, batch, cut, alike) for layer, cut in zip(program.body.layers, cuts, strict=True) if cut)
    inputs = tuple(name for name in program.inputs if name in {layer.input for layer in layers})
    outputs = tuple(layer.parts[0].output for layer in layers)
    return replace(program, inputs=inputs, outputs=outputs, body=RegionBody(layers))


def _mode(program: RegionProgram, payload: Buffer) -> int:
    """The mode of a request, `FIRST` or `LATER`. A byte that is neither is returned as it is, and refused by the caller."""
    return payload[0] if mode_bytes(program) and payload else FIRST


class _Part(BfvServer):
    """A server for some answers of a region's layers. `expanded` names layers as in the whole region, so that `a` is the same."""

    def __init__(self, program: RegionProgram, weights: list[LayerWeights], expanded: list[bytes]) -> None:
        super().__init__(program, weights)
        self._contexts, self.mode_bytes = expanded, mode_bytes(program)


class BfvShard(RegionShard):
    """Computes its part of every layer of a region, from the whole region's requests."""

    def __init__(self, program: RegionProgram, weights: list[LayerWeights], index: int, count: int) -> None:
        self.max_batch = program.max_batch
        self._program, self._weights, self._index, self._count = program, weights, index, count
        self.joining = BfvJoin(program, count)
        self._parts: dict[tuple[tuple[int, range], ...], _Part] = {}
        self._sizes = lru_cache(_KEPT)(lambda batch, mode: _sizes(program, batch, mode))
        self._part(1)  # other batch sizes mostly use the same server, or get theirs when first asked for

    def request_bytes(self, batch: int) -> int:
        return mode_bytes(self._program) + sum(size.up for size in self._sizes(batch, FIRST))

    def evaluate(self, payload: Buffer, batch: int, session: Session | None = None) -> Buffer:
        """The shard's part of a reply. Raises `ProtocolError` as the whole region's server does."""
        mode, start = _mode(self._program, payload), mode_bytes(self._program)
        if mode not in (FIRST, LATER):
            raise ProtocolError(
                f"region '{self._program.region}': the first byte of a request must be {FIRST} (brings seeds) or {LATER}"
            )
        sizes = self._sizes(batch, mode)
        expected = start + sum(size.up for size in sizes)
        if len(payload) != expected:
            raise ProtocolError(f"region '{self._program.region}', batch {batch}: {len(payload)} bytes, expected {expected}")
        part, cuts = self._part(batch), _cuts(self._program, batch, self._index, self._count)
        if part is None:
            return b""
        if all(cuts):
            return part.evaluate(payload, batch)
        view = memoryview(payload)
        pieces = [view[: part.mode_bytes]]
        for size, cut in zip(sizes, cuts, strict=True):
            pieces += [view[start : start + size.up]] if cut else []
            start += size.up
        return part.evaluate(b"".join(pieces), batch)

    def _part(self, batch: int) -> _Part | None:
        """The server for this batch size, the same for all sizes with the same rows. None if the shard has nothing to compute."""
        cuts, key = _cuts(self._program, batch, self._index, self._count), self._key(batch)
        if not any(cuts):
            return None
        if key not in self._parts:
            alike = [self._key(size) == key for size in range(1, self.max_batch + 1)]
            layers = [(place, layer) for place, layer in enumerate(self._program.body.layers) if cuts[place]]
            weights = [_weights(self._weights[place], cuts[place], layer.packings[batch - 1].p_out) for place, layer in layers]
            expanded = contexts(self._program, len(self._program.body.layers))
            program = _divided(self._program, batch, cuts, alike)
            self._parts[key] = _Part(program, weights, [expanded[place] for place, _ in layers])
        return self._parts[key]

    def _key(self, batch: int) -> tuple[tuple[int, range], ...]:
        """Equal for batch sizes at which the shard has the same rows."""
        cuts = _cuts(self._program, batch, self._index, self._count)
        return tuple((layer.packings[batch - 1].p_out, cut) for layer, cut in zip(self._program.body.layers, cuts, strict=True))


def _weights(weights: LayerWeights, answers: range, p_out: int) -> LayerWeights:
    """The weights of some answers."""
    return LayerWeights(_rows(weights.encrypted, answers, p_out), _rows(weights.revealed, answers, p_out))


def _sizes(program: RegionProgram, batch: int, mode: int) -> list[LayerSizes]:
    """The sizes of every layer's part of a message."""
    return [layer_sizes(layer, core_layout(layer, batch), batch, mode) for layer in program.body.layers]


@dataclass(frozen=True)
class BfvJoin(ReplyJoin):
    """Joins the replies of `count` shards to the reply that one server would give. The document is public."""

    program: RegionProgram
    count: int

    def shards(self, batch: int) -> tuple[int, ...]:
        return tuple(index for index in range(self.count) if any(_cuts(self.program, batch, index, self.count)))

    def join(self, request: Buffer, batch: int, replies: Mapping[int, bytes]) -> bytes:
        mode, shards = _mode(self.program, request), self.shards(batch)
        cuts = {index: _cuts(self.program, batch, index, self.count) for index in shards}
        left = {index: memoryview(replies[index]) for index in shards}
        joined: list[bytes] = []
        for place, layer in enumerate(self.program.body.layers):
            pieces = list[tuple[range, memoryview, LayerSizes]]()
            for index in shards:
                if cut := cuts[index][place]:
                    part = _sliced(layer, batch, cut, [True] * len(layer.packings))
                    size = layer_sizes(part, core_layout(part, batch), batch, mode)
                    pieces.append((cut, left[index][: size.down], size))
                    left[index] = left[index][size.down :]
            if any(len(view) != size.down for _, view, size in pieces):
                raise InternalError(f"region '{self.program.region}': a shard's reply is shorter than its share")
            joined += _layer_reply(layer, batch, sorted(pieces, key=lambda piece: piece[0].start))
        if any(len(view) for view in left.values()):
            raise InternalError(f"region '{self.program.region}': a shard's reply is longer than its share")
        return b"".join(joined)


def _layer_reply(layer: LayerProgram, batch: int, pieces: list[tuple[range, memoryview, LayerSizes]]) -> list[bytes]:
    """`b`, `a` and sums of a layer, from pieces in the order of their answers."""
    layout, row, q_bits = layer.layout(batch), layer.packings[batch - 1], layer.parameters.q_bits
    core, answers = core_layout(layer, batch), [len(cut) for cut, _, _ in pieces]
    b = [view[: size.down_b] for _, view, size in pieces]
    joined = [_beside(b, answers, (layout.blocks, layout.answers, layout.gather_count), q_bits - row.drop_b)]
    if pieces[0][2].down_a:
        a = [view[size.down_b : size.down_b + size.down_a] for _, view, size in pieces]
        joined.append(_beside(a, answers, (core.seeds, layout.answers, layout.packing.dimension), q_bits - row.drop_a))
    if pieces[0][2].down_sums:
        sums, rows = [view[size.down_b + size.down_a :] for _, view, size in pieces], [count * row.p_out for count in answers]
        shape = (batch * layer.images_per_sample, layer.geometry.rows, prod(layer.geometry.grid))
        joined.append(_beside(sums, rows, shape, layer.parameters.t_bits))
    return joined


def _beside(pieces: list[memoryview], counts: list[int], shape: tuple[int, int, int], bits: int) -> bytes:
    """Join the packed words (outer, counts[i], each) of all pieces to (outer, inner, each), without those beyond `inner`."""
    outer, inner, row_words = shape
    if sum(counts) == inner and all(count * row_words % 8 == 0 for count in counts):  # rows are whole bytes: nothing is unpacked
        whole, rest = divmod(bits, 8)
        octets = [np.frombuffer(piece, np.uint8) for piece in pieces]
        ends = [outer * count * row_words * whole for count in counts]
        rows = [[packed[:end].reshape(outer, -1) for packed, end in zip(octets, ends, strict=True)]] if whole else []
        rows += [[packed[end:].reshape(outer, -1) for packed, end in zip(octets, ends, strict=True)]] if rest else []
        return b"".join(np.concatenate(part, axis=1).tobytes() for part in rows)
    words = [
        unpack_bits(piece[: packed_bytes(outer * count * row_words, bits)], outer * count * row_words, bits).reshape(
            outer, count, row_words
        )
        for piece, count in zip(pieces, counts, strict=True)
    ]
    return pack_bits(np.concatenate(words, axis=1)[:, :inner], bits)
