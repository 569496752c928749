"""The client's side of linear circuits: it makes fresh keys for a request, encrypts and decrypts. No server imports this module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.backends.concrete.client_keys import client_with_keys, decrypted
from hecompile.backends.concrete.frames import cut
from hecompile.backends.concrete.linear.program import LinearProgram
from hecompile.backends.concrete.windows import quantise_windows
from hecompile.backends.region_client import Pending, RegionClient, Secrets
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.ir.dequantizer import Dequantizer, leading
from hecompile.ir.halves import Array

__all__ = ["LinearClient"]


@dataclass(frozen=True, repr=False)
class _Pending(Pending):
    """What a request needs until its reply comes: for every layer a client with its key, and the scales to read its answer."""

    clients: list[Any]
    scales: list[npt.NDArray[np.float64]]
    leading: list[tuple[int, ...]]
    batch: int


class LinearClient(RegionClient):
    """Encrypts a region's inputs, one ciphertext for each picture, and decrypts its outputs."""

    def __init__(self, program: LinearProgram, dequantizers: list[Dequantizer]) -> None:
        self.inputs, self.outputs = program.inputs, program.outputs
        self.max_batch = program.max_batch
        self._program, self._dequantizers = program, dequantizers

    def _fresh(self) -> list[Any]:
        """Make a client of Concrete with a new key for every layer."""
        return [client_with_keys(layer.circuit) for layer in self._program.body.layers]

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        self._program.check_batch(batch)
        named = dict(zip(self.inputs, values, strict=True))
        pending = _Pending(self.reply_bytes(batch), self._fresh(), [], [], batch)
        parts: list[Buffer] = []
        for layer, client in zip(self._program.body.layers, pending.clients, strict=True):
            value = named[layer.input]
            integers, scales = quantise_windows(layer.geometry.to_picture(value), layer.geometry, layer.limits)
            if len(integers) != layer.elements(batch):
                raise ProtocolError(f"layer of {layer.input}: {len(integers)} pictures for a batch of {batch}")
            parts += [layer.request.unwrap(client.encrypt(element[None]).serialize()) for element in integers]
            pending.scales.append(scales)
            pending.leading.append(leading(value, layer.geometry))
        return parts, pending

    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        if not isinstance(pending, _Pending):
            raise ProtocolError("this reply belongs to a request of another backend")
        layers = self._program.body.layers
        pieces = iter(cut(reply, [layer.reply.size for layer in layers for _ in range(layer.elements(pending.batch))]))
        outputs = list[Array]()
        for place, (layer, dequantizer, client) in enumerate(zip(layers, self._dequantizers, pending.clients, strict=True)):
            results = [decrypted(client, layer.reply, next(pieces)) for _ in range(layer.elements(pending.batch))]
            outputs += dequantizer.values(np.concatenate(results), pending.scales[place], pending.leading[place])
        return outputs

    def request_bytes(self, batch: int) -> int:
        return self._program.body.request_bytes(batch)

    def reply_bytes(self, batch: int) -> int:
        return self._program.body.reply_bytes(batch)
