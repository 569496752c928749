"""The client's half of a sampler's step: it rounds, encrypts under fresh secrets, and decrypts. The server never imports it."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt

from hecompile import _core
from hecompile.backends.bfv.expansion import contexts
from hecompile.backends.region_client import Pending, RegionClient, Secrets
from hecompile.backends.sampler_step.layout import core_layout
from hecompile.backends.sampler_step.program import SamplerStepProgram, Sizes
from hecompile.backends.sampler_step.support import Support
from hecompile.backends.words import pack_signed, unpack_signed
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array

__all__ = ["SamplerStepClient"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
LARGEST = float(np.finfo(np.float32).max)
_KEPT_LAYOUTS = 64  # layouts that are kept, one for each number of pairs


@dataclass(frozen=True, repr=False)
class _Pending(Pending):
    """Kept from a request to its reply."""

    request: _core.Request
    mask: Mask  # (B, C, H, W): true where encrypted
    encrypted_scales: Floats  # (B)
    clear_scales: Floats  # (B)
    unit: float  # F / f, which the result is divided by
    sizes: Sizes


def _rounded(pair: Floats, selected: Mask, limit: int) -> tuple[Integers, Floats]:
    """The selected entries of (2, B, C, H, W) as integers in [-limit, limit], with one scale per sample: (2, n) and (B)."""
    peaks = np.abs(np.where(selected, pair, 0.0)).max(axis=(0, 2, 3, 4), initial=0.0)
    scales = np.where(peaks / limit > 0, peaks / limit, 1.0)
    integers = np.clip(np.rint(pair / scales[:, None, None, None]), -limit, limit)
    return integers[:, selected].astype(np.int64), scales


class SamplerStepClient(RegionClient):
    """The client's half of f x + g e, for x and e (B, C, H, W) and public (t, f, g).

    `clear_share` is the fraction of entries that were ever revealed.
    """

    def __init__(self, program: SamplerStepProgram, support: Support) -> None:
        self.inputs, self.outputs, self.max_batch = program.inputs, program.outputs, program.max_batch
        self.support = support
        self.clear_share = program.body.most_revealed / program.body.entries
        self._program, self._body, self._context = program, program.body, contexts(program, 1)[0]
        self._layout = lru_cache(_KEPT_LAYOUTS)(partial(core_layout, program))

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        program, body = self._program, self._body
        wanted = (batch, *body.shape)
        if any(value.shape != wanted for value in values[:2]) or values[2].shape != (3,):
            raise ProtocolError(
                f"region '{program.region}': values of {[value.shape for value in values]}, expected two of {wanted}"
            )
        program.check_batch(batch)
        t, f, g = (float(number) for number in values[2])
        pair = np.nan_to_num(np.stack(values[:2]).astype(np.float64), nan=0.0, posinf=LARGEST, neginf=-LARGEST)
        mask = self.support.choose(pair[0], t)
        encrypted, encrypted_scales = _rounded(pair, mask, body.parameters.limit)
        clear, clear_scales = _rounded(pair, ~mask, 2 ** (body.reveal_bits - 1) - 1)
        sizes = body.sizes(batch, clear.shape[1])
        unit = (body.weight - 1) / (abs(f) + abs(g))
        polynomials = np.zeros((2, sizes.polynomials * body.parameters.dimension), np.int64)
        polynomials[:, : sizes.encrypted] = encrypted
        pairs = np.ascontiguousarray(polynomials.reshape(2, sizes.polynomials, -1).swapaxes(0, 1))
        words = bytearray(sizes.up_words + sizes.up_seeds)
        request = _core.encrypt([self._layout(sizes.polynomials)], [pairs], [self._context], words, [0])
        payload: list[Buffer] = [
            struct.pack("<iiI", round(f * unit), round(g * unit), clear.shape[1]),
            pack_signed(clear[0], body.reveal_bits),
            pack_signed(clear[1], body.reveal_bits),
            words,
        ]
        return payload, _Pending(sizes.down, request, mask, encrypted_scales, clear_scales, unit, sizes)

    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        if not isinstance(pending, _Pending):
            raise ProtocolError("a reply to another backend's request")
        program, body, sizes = self._program, self._body, pending.sizes
        if len(reply) != sizes.down:
            raise ProtocolError(f"region '{program.region}': a reply of {len(reply)} bytes, expected {sizes.down}")
        clear = unpack_signed(memoryview(reply)[: sizes.down_clear], int((~pending.mask).sum()), body.result_bits)
        sums = np.empty(sizes.polynomials * body.parameters.dimension, np.int64)
        try:
            _core.decrypt(pending.request, reply, [sizes.down_clear], [sums])
        except ValueError as error:
            raise ProtocolError(f"region '{program.region}': {error}") from error
        integers, mask = np.empty(pending.mask.shape), pending.mask
        integers[mask], integers[~mask] = sums[: sizes.encrypted], clear
        scales = np.where(mask, pending.encrypted_scales[:, None, None, None], pending.clear_scales[:, None, None, None])
        result: Array = np.clip(integers * scales / pending.unit, -LARGEST, LARGEST).astype(np.float32)
        return [result]

    def request_bytes(self, batch: int) -> int:
        return max(self._body.sizes(batch, clear).up for clear in self._body.counts(batch))

    def reply_bytes(self, batch: int) -> int:
        return max(self._body.sizes(batch, clear).down for clear in self._body.counts(batch))
