"""The server's half of a sampler's step: F x + G e on ciphertext words and on revealed integers. It has no weights and no key."""

from __future__ import annotations

import struct
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt

from hecompile import _core
from hecompile.backends.bfv.expansion import contexts
from hecompile.backends.region_server import RegionServer, Session
from hecompile.backends.sampler_step.layout import core_layout
from hecompile.backends.sampler_step.program import HEADER_BYTES, SamplerStepProgram, Sizes
from hecompile.backends.words import pack_bits, pack_signed, round_off, unpack_bits, unpack_signed
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError

__all__ = ["SamplerStepServer"]

Words = npt.NDArray[np.uint64]
_KEPT_LAYOUTS = 64  # layouts that are kept, one for each number of pairs


class SamplerStepServer(RegionServer):
    """Answers requests for sampler steps, and keeps nothing from one request to the next."""

    def __init__(self, program: SamplerStepProgram) -> None:
        self.max_batch = program.max_batch
        self._program, self._body, self._context = program, program.body, contexts(program, 1)[0]
        self._layout = lru_cache(_KEPT_LAYOUTS)(partial(core_layout, program))

    def request_bytes(self, batch: int) -> int:
        return max(self._body.sizes(batch, clear).up for clear in self._body.counts(batch))

    def evaluate(self, payload: Buffer, batch: int, session: Session | None = None) -> Buffer:
        program, body, q_bits = self._program, self._body, self._body.parameters.q_bits
        program.check_batch(batch)
        f, g, clear = self._header(payload, batch)
        sizes = body.sizes(batch, clear)
        if len(payload) != sizes.up:
            raise ProtocolError(f"region '{program.region}', batch {batch}: {len(payload)} bytes, expected {sizes.up}")
        rest = memoryview(payload)[HEADER_BYTES:]
        x, e = (unpack_signed(rest[start : start + sizes.up_clear], clear, body.reveal_bits) for start in (0, sizes.up_clear))
        b, a = self._sums(rest[2 * sizes.up_clear :], sizes, f, g)
        return (
            pack_signed(f * x + g * e, body.result_bits)
            + pack_bits(round_off(b, body.drops.b, q_bits), q_bits - body.drops.b)
            + pack_bits(round_off(a, body.drops.a, q_bits), q_bits - body.drops.a)
        )

    def _header(self, payload: Buffer, batch: int) -> tuple[int, int, int]:
        """F, G and the number of revealed entries. Raises `ProtocolError` if they are not what was proved."""
        program, body = self._program, self._body
        if len(payload) < HEADER_BYTES:
            raise ProtocolError(f"region '{program.region}': a request of {len(payload)} bytes, fewer than its header has")
        f, g, clear = struct.unpack_from("<iiI", payload)
        if abs(f) + abs(g) > body.weight:
            raise ProtocolError(f"region '{program.region}': |F| + |G| is {abs(f) + abs(g)}, at most {body.weight} was proved")
        fits = clear <= batch * body.most_clear if body.dynamic else clear in {batch * count for count in body.clear}
        if not fits:
            raise ProtocolError(f"region '{program.region}': {clear} entries in the clear are not what the artifact declares")
        return f, g, clear

    def _sums(self, data: memoryview, sizes: Sizes, f: int, g: int) -> tuple[Words, Words]:
        """F x + G e of `b`, (pairs, N), and of `a`, (groups, N). Raises `ProtocolError` for words that are not below q."""
        body, layout = self._body, self._layout(sizes.polynomials)
        dimension, q = body.parameters.dimension, np.uint64(body.q)
        words = unpack_bits(data[: sizes.up_words], 2 * sizes.polynomials * dimension, body.parameters.q_bits)
        if (words >= q).any():
            raise ProtocolError(f"region '{self._program.region}': a word of the request is not below q")
        try:
            public = _core.public_words(layout, data[sizes.up_words :], self._context)
        except ValueError as error:
            raise ProtocolError(f"region '{self._program.region}': {error}") from error
        pairs = [part.reshape(-1, 2, dimension).astype(np.int64) for part in (words, public)]
        b, a = (((f * pair[:, 0] + g * pair[:, 1]) % body.q).astype(np.uint64) for pair in pairs)
        return b, a
