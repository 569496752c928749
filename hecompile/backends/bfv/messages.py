"""The ring of a layer and the sizes of what travels for it: functions of the program and the batch, never of the data.

Request: `b` of every upload, q_bits per word, then SEAL's 64-byte seeds of their `a`, then released entries, if any. Reply: `b` at
the coefficients that are read, then `a`, each without its dropped low bits, then with tiles the sums over what is released.
"""

from __future__ import annotations

from dataclasses import dataclass

from hecompile.backends.bfv.program import LayerProgram
from hecompile.backends.bfv.released import released_bytes, sums_bytes
from hecompile.backends.bfv.seal import SEED_BYTES, Ring, make_ring
from hecompile.backends.words import packed_bytes
from hecompile.errors import ProtocolError

__all__ = ["Sizes", "ring_of", "sizes"]


@dataclass(frozen=True)
class Sizes:
    """Polynomials and bytes of one layer's part of a request and its reply."""

    uploads: int
    answers: int
    up_words: int
    up_seeds: int
    up_released: int
    down_b: int
    down_a: int
    down_sums: int

    @property
    def up(self) -> int:
        return self.up_words + self.up_seeds + self.up_released

    @property
    def down(self) -> int:
        return self.down_b + self.down_a + self.down_sums


def sizes(layer: LayerProgram, batch: int) -> Sizes:
    """What travels at this batch size."""
    layout, row, parameters = layer.layout(batch), layer.packings[batch - 1], layer.parameters
    uploads, answers = layout.blocks * layout.uploads, layout.blocks * layout.answers
    return Sizes(
        uploads,
        answers,
        up_words=packed_bytes(uploads * parameters.dimension, parameters.q_bits),
        up_seeds=uploads * SEED_BYTES,
        up_released=released_bytes(layer, batch),
        down_b=packed_bytes(answers * layout.read_count, parameters.q_bits - row.drop_b),
        down_a=packed_bytes(answers * parameters.dimension, parameters.q_bits - row.drop_a),
        down_sums=sums_bytes(layer, batch),
    )


def ring_of(layer: LayerProgram) -> Ring:
    """The layer's ring. Raises `ProtocolError` unless its prime is the one that SEAL picks for its size."""
    ring = make_ring(layer.parameters.dimension, layer.parameters.q_bits, 1 << layer.parameters.t_bits)
    if ring.q != layer.q:
        raise ProtocolError(f"layer of {layer.input}: q is {layer.q}, not SEAL's prime of {ring.q_bits} bits")
    return ring
