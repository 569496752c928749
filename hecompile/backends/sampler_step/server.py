"""The server's half of a sampler region: F x + G e on ciphertext words and on the integers in clear. No weights, no key."""

from __future__ import annotations

import struct

import numpy as np

from hecompile.backends.bfv.seal import Ring, Words, expand_seeds
from hecompile.backends.region_server import RegionServer, Session
from hecompile.backends.sampler_step.program import HEADER_BYTES, AffineProgram
from hecompile.backends.words import SEED_BYTES, pack_bits, pack_signed, round_off, unpack_bits, unpack_signed
from hecompile.errors import ProtocolError

__all__ = ["AffineServer"]


class AffineServer(RegionServer):
    """Answers sampler steps; keeps nothing between them."""

    def __init__(self, program: AffineProgram, ring: Ring) -> None:
        self.max_batch = program.max_batch
        self._program, self._body, self._ring = program, program.body, ring

    def request_bytes(self, batch: int) -> int:
        return max(self._body.sizes(batch, clear).up for clear in self._body.counts(batch))

    def evaluate(self, payload: bytes, batch: int, session: Session | None = None) -> bytes:
        program, body, ring = self._program, self._body, self._ring
        program.judge_batch(batch)
        f, g, clear = self._header(payload, batch)
        sizes = body.sizes(batch, clear)
        if len(payload) != sizes.up:
            raise ProtocolError(f"region '{program.region}', batch {batch}: {len(payload)} bytes, expected {sizes.up}")
        rest = memoryview(payload)[HEADER_BYTES:]
        x, e = (unpack_signed(rest[start : start + sizes.up_clear], clear, body.reveal_bits) for start in (0, sizes.up_clear))
        words = self._words(rest[2 * sizes.up_clear :], sizes.up_words)
        b, a = ((f * part[0] + g * part[1]) % ring.q for part in words.astype(np.int64))  # (polynomials, N)
        used, drops = b.reshape(-1)[: sizes.encrypted].astype(np.uint64), body.drops
        return (
            pack_signed(f * x + g * e, body.result_bits)
            + pack_bits(round_off(used, drops.b, ring.q_bits), ring.q_bits - drops.b)
            + pack_bits(round_off(a.astype(np.uint64), drops.a, ring.q_bits), ring.q_bits - drops.a)
        )

    def _header(self, payload: bytes, batch: int) -> tuple[int, int, int]:
        """F, G and the number of entries in clear. Raises `ProtocolError` if they are not what was proved."""
        program, body = self._program, self._body
        if len(payload) < HEADER_BYTES:
            raise ProtocolError(f"region '{program.region}': {len(payload)} bytes are no request")
        f, g, clear = struct.unpack_from("<iiI", payload)
        if abs(f) + abs(g) > body.weight:
            raise ProtocolError(f"region '{program.region}': |F| + |G| is {abs(f) + abs(g)}, at most {body.weight} was proved")
        fits = clear <= batch * body.most_clear if body.dynamic else clear in {batch * count for count in body.clear}
        if not fits:
            raise ProtocolError(f"region '{program.region}': {clear} entries in clear are not what the artifact declares")
        return f, g, clear

    def _words(self, data: memoryview, size: int) -> Words:
        """(2, 2, polynomials, N): `b` before `a`, x before e. Raises `ProtocolError` for words that are not below q."""
        ring = self._ring
        seeds = np.frombuffer(data[size:], np.uint8).reshape(-1, SEED_BYTES)
        words = unpack_bits(data[:size], len(seeds) * ring.dimension, ring.q_bits)
        if (words >= np.uint64(ring.q)).any():
            raise ProtocolError(f"region '{self._program.region}': a word of the request is not below q")
        pair: Words = np.stack([words.reshape(len(seeds), -1), expand_seeds(ring, seeds)])
        return pair.reshape(2, 2, -1, ring.dimension)
