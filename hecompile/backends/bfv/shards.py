"""A region's layers divided among several servers, each with some of every layer's output channels.

An answer of the packing is `p_out` output channels, and a reply has the words of one answer beside those of the next. A shard is
a server for some answers of each layer: its layers have fewer rows, get the same request and are evaluated by the same code.
`BfvJoin` puts the words of the shards' replies where one server would have put them:

    shard 0: b of answers 0, 1   a of answers 0, 1
    shard 1: b of answers 2, 3   a of answers 2, 3
    reply:   b of answers 0, 1, 2, 3   a of answers 0, 1, 2, 3          (all of it for every block, and for every seed)

A layer with fewer answers than shards is evaluated by some of them. What is public is expanded as for the whole region.
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

_KEPT = 64  # of the sizes that were worked out last: batches times modes
Cuts = tuple[range, ...]  # the answers of each layer that a shard evaluates


def _cuts(program: RegionProgram, batch: int, index: int, count: int) -> Cuts:
    """What a shard evaluates at a batch size. They take turns, so that not all layers of one answer fall to the same one."""
    found = []
    for place, layer in enumerate(program.body.layers):
        answers, turn = layer.layout(batch).answers, (index + place) % count
        found.append(range(answers * turn // count, answers * (turn + 1) // count))
    return tuple(found)


def _sliced(layer: LayerProgram, batch: int, answers: range, alike: Sequence[bool]) -> LayerProgram:
    """The layer with the rows of these answers only, the last of which is filled up with zeros.

    `alike`: the batch sizes at which these rows are the shard's; at others, where the packing is another one, it is not used.
    """
    chosen = layer.packings[batch - 1]
    geometry = replace(
        layer.geometry, outputs=len(answers) * chosen.p_out, up=(1, 1), out_size=layer.geometry.grid
    )  # rows lie as they do in the layer, before depth-to-space
    packings = tuple(row if same else chosen for row, same in zip(layer.packings, alike, strict=True))
    parts = (Part(layer.parts[0].output, geometry.outputs),)
    return replace(layer, geometry=geometry, parts=parts, packings=packings)


def _rows(weights: npt.NDArray[np.int8], answers: range, p_out: int) -> npt.NDArray[np.int8]:
    """The rows of some answers, and zeros where the last of them is not full."""
    chosen = weights[answers.start * p_out : answers.stop * p_out]
    missing = len(answers) * p_out - len(chosen)
    return np.pad(chosen, ((0, missing), (0, 0), (0, 0))) if missing else np.ascontiguousarray(chosen)


def _divided(program: RegionProgram, batch: int, cuts: Cuts, alike: Sequence[bool]) -> RegionProgram:
    """The region with the answers of a shard; layers of which it has none are left out."""
    layers = tuple(_sliced(layer, batch, cut, alike) for layer, cut in zip(program.body.layers, cuts, strict=True) if cut)
    inputs = tuple(name for name in program.inputs if name in {layer.input for layer in layers})
    outputs = tuple(layer.parts[0].output for layer in layers)
    return replace(program, inputs=inputs, outputs=outputs, body=RegionBody(layers))


def _mode(program: RegionProgram, payload: Buffer) -> int:
    """As a whole server reads it; what says neither fails there by its size."""
    return payload[0] if mode_bytes(program) and payload else FIRST


class _Part(BfvServer):
    """Some answers of a region's layers; `expanded` is what their `a` depends on in the whole region."""

    def __init__(self, program: RegionProgram, weights: list[LayerWeights], expanded: list[bytes]) -> None:
        super().__init__(program, weights)
        self._contexts, self.mode_bytes = expanded, mode_bytes(program)


class BfvShard(RegionShard):
    """Evaluates its share of every layer of a region, from the whole region's requests."""

    def __init__(self, program: RegionProgram, weights: list[LayerWeights], index: int, count: int) -> None:
        self.max_batch = program.max_batch
        self._program, self._weights, self._index, self._count = program, weights, index, count
        self.joining = BfvJoin(program, count)
        self._parts: dict[tuple[tuple[int, range], ...], _Part] = {}
        self._sizes = lru_cache(_KEPT)(lambda batch, mode: _sizes(program, batch, mode))
        self._part(1)  # the weights of other batches are put in order when they come: most are the same

    def request_bytes(self, batch: int) -> int:
        return mode_bytes(self._program) + sum(size.up for size in self._sizes(batch, FIRST))

    def evaluate(self, payload: Buffer, batch: int, session: Session | None = None) -> Buffer:
        """The share of a reply. Raises `ProtocolError` as the whole region's server does."""
        mode, start = _mode(self._program, payload), mode_bytes(self._program)
        if mode not in (FIRST, LATER):
            raise ProtocolError(f"region '{self._program.region}': a request that neither brings seeds nor goes on with a run")
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
        """What evaluates this batch size: one for all sizes at which the shard has the same rows. None if it has none."""
        cuts, key = _cuts(self._program, batch, self._index, self._count), self._key(batch)
        if not any(cuts):
            return None
        if key not in self._parts:
            alike = [self._key(each) == key for each in range(1, self.max_batch + 1)]
            chosen = [(place, layer) for place, layer in enumerate(self._program.body.layers) if cuts[place]]
            weights = [_weights(self._weights[place], cuts[place], layer.packings[batch - 1].p_out) for place, layer in chosen]
            expanded = contexts(self._program, len(self._program.body.layers))
            program = _divided(self._program, batch, cuts, alike)
            self._parts[key] = _Part(program, weights, [expanded[place] for place, _ in chosen])
        return self._parts[key]

    def _key(self, batch: int) -> tuple[tuple[int, range], ...]:
        """Batch sizes with the same key have the same rows."""
        cuts = _cuts(self._program, batch, self._index, self._count)
        return tuple((layer.packings[batch - 1].p_out, cut) for layer, cut in zip(self._program.body.layers, cuts, strict=True))


def _weights(weights: LayerWeights, answers: range, p_out: int) -> LayerWeights:
    return LayerWeights(_rows(weights.encrypted, answers, p_out), _rows(weights.released, answers, p_out))


def _sizes(program: RegionProgram, batch: int, mode: int) -> list[LayerSizes]:
    return [layer_sizes(layer, core_layout(layer, batch), batch, mode) for layer in program.body.layers]


@dataclass(frozen=True)
class BfvJoin(ReplyJoin):
    """The words of `count` shards' replies in the order of one server's reply. The program is public."""

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
    """`b`, `a` and sums of a layer, of pieces in the order of their answers."""
    layout, row, q_bits = layer.layout(batch), layer.packings[batch - 1], layer.parameters.q_bits
    core, answers = core_layout(layer, batch), [len(cut) for cut, _, _ in pieces]
    b = [view[: size.down_b] for _, view, size in pieces]
    found = [_beside(b, answers, (layout.blocks, layout.answers, layout.read_count), q_bits - row.drop_b)]
    if pieces[0][2].down_a:
        a = [view[size.down_b : size.down_b + size.down_a] for _, view, size in pieces]
        found.append(_beside(a, answers, (core.seeds, layout.answers, layout.packing.dimension), q_bits - row.drop_a))
    if pieces[0][2].down_sums:
        sums, rows = [view[size.down_b + size.down_a :] for _, view, size in pieces], [each * row.p_out for each in answers]
        shape = (batch * layer.multiple, layer.geometry.rows, prod(layer.geometry.grid))
        found.append(_beside(sums, rows, shape, layer.parameters.t_bits))
    return found


def _beside(pieces: list[memoryview], counts: list[int], shape: tuple[int, int, int], bits: int) -> bytes:
    """Packed words (outer, counts[i], each) of every piece -> packed words (outer, inner, each); more than `inner` are cut off."""
    outer, inner, each = shape
    if sum(counts) == inner and all(count * each % 8 == 0 for count in counts):  # every row begins with a byte: nothing is unpacked
        whole, rest = divmod(bits, 8)
        octets = [np.frombuffer(piece, np.uint8) for piece in pieces]
        ends = [outer * count * each * whole for count in counts]
        rows = [[each[:end].reshape(outer, -1) for each, end in zip(octets, ends, strict=True)]] if whole else []
        rows += [[each[end:].reshape(outer, -1) for each, end in zip(octets, ends, strict=True)]] if rest else []
        return b"".join(np.concatenate(part, axis=1).tobytes() for part in rows)
    words = [
        unpack_bits(piece[: packed_bytes(outer * count * each, bits)], outer * count * each, bits).reshape(outer, count, each)
        for piece, count in zip(pieces, counts, strict=True)
    ]
    return pack_bits(np.concatenate(words, axis=1)[:, :inner], bits)
