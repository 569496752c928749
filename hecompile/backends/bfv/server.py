"""The server's half of a `bfv` region: weights and public words. There is no field, argument or import for a secret key."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hecompile.backends.bfv.evaluator import encode, evaluate
from hecompile.backends.bfv.messages import ring_of, sizes
from hecompile.backends.bfv.product import choose_kernel
from hecompile.backends.bfv.program import LayerProgram, RegionProgram
from hecompile.backends.bfv.released import pack_sums, released_sums, unpack_released
from hecompile.backends.bfv.seal import SEED_BYTES, Ring, Words, expand_seeds
from hecompile.backends.bfv.weights import LayerWeights
from hecompile.backends.region_server import RegionServer, Session
from hecompile.backends.words import pack_bits, round_off, unpack_bits
from hecompile.errors import ProtocolError

__all__ = ["BfvServer"]

Integers = npt.NDArray[np.int64]


class BfvServer(RegionServer):
    """Answers requests for one region; keeps nothing between them."""

    def __init__(self, program: RegionProgram, weights: list[LayerWeights]) -> None:
        self.max_batch = program.max_batch
        self._program, self._weights = program, weights
        self._rings = [ring_of(layer) for layer in program.body.layers]
        self._kernel = choose_kernel()  # refuses on a machine that multiplies wrongly

    def request_bytes(self, batch: int) -> int:
        return sum(sizes(layer, batch).up for layer in self._program.body.layers)

    def evaluate(self, payload: bytes, batch: int, session: Session | None = None) -> bytes:
        expected = self.request_bytes(batch)
        if len(payload) != expected:
            raise ProtocolError(f"region '{self._program.region}', batch {batch}: {len(payload)} bytes, expected {expected}")
        replies, start = [], 0
        for layer, ring, weights in zip(self._program.body.layers, self._rings, self._weights, strict=True):
            size = sizes(layer, batch).up
            part = memoryview(payload)[start : start + size]
            words = _unpack_request(part, layer, ring, batch)
            b, a = evaluate(words, weights.encrypted, layer.layout(batch), ring, self._kernel)
            sums = self._sums(part, layer, weights, batch) if layer.split.shows else None
            if sums is not None and layer.split.tiles is None:
                encoded = encode(layer.layout(batch).unread(sums), layer.parameters.t_bits, layer.q)
                total, sums = b + encoded, None  # below 2 q
                b = np.minimum(total, total - np.uint64(layer.q))  # below q the difference wraps around to something larger
            replies += [_pack_reply(b, a, layer, ring, batch), b"" if sums is None else pack_sums(layer, sums)]
            start += size
        return b"".join(replies)

    def _sums(self, data: memoryview, layer: LayerProgram, weights: LayerWeights, batch: int) -> Integers:
        """The sums over what is released. Raises `ProtocolError` for entries that no quantiser gives."""
        released = unpack_released(data[len(data) - sizes(layer, batch).up_released :], layer, batch)
        return released_sums(layer, released, weights.shown(layer.split), self._kernel)


def _unpack_request(data: memoryview, layer: LayerProgram, ring: Ring, batch: int) -> Words:
    """(2, blocks, uploads, N) words, `b` before `a`. Raises `ProtocolError` for words that are not below q."""
    layout, size = layer.layout(batch), sizes(layer, batch)
    words = unpack_bits(data[: size.up_words], size.uploads * ring.dimension, ring.q_bits)
    if (words >= np.uint64(ring.q)).any():
        raise ProtocolError(f"layer of {layer.input}: a word of the request is not below q")
    seeds = np.frombuffer(data[size.up_words : size.up_words + size.up_seeds], np.uint8).reshape(size.uploads, SEED_BYTES)
    pair: Words = np.stack([words.reshape(size.uploads, -1), expand_seeds(ring, seeds)])
    return pair.reshape(2, layout.blocks, layout.uploads, ring.dimension)


def _pack_reply(b: Words, a: Words, layer: LayerProgram, ring: Ring, batch: int) -> bytes:
    """(blocks, answers, reads) and (blocks, answers, N) -> bytes."""
    row = layer.packings[batch - 1]
    read, rest = round_off(b, row.drop_b, ring.q_bits), round_off(a, row.drop_a, ring.q_bits)
    return pack_bits(read, ring.q_bits - row.drop_b) + pack_bits(rest, ring.q_bits - row.drop_a)
