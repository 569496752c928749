"""The client's half of linear circuits: a fresh key per request, encryption, decryption. The server never imports this module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.backends.concrete.frames import cut
from hecompile.backends.concrete.linear.program import LinearProgram
from hecompile.backends.concrete.opened import client_with_keys, decrypted
from hecompile.backends.concrete.windows import quantise_windows
from hecompile.backends.region_client import Pending, RegionClient, Secrets
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array
from hecompile.ir.readout import Readout, leading

__all__ = ["LinearClient"]


@dataclass(frozen=True, repr=False)
class _Pending(Pending):
    """A client with its key per layer, and how to read the layer's answer."""

    clients: list[Any]
    scales: list[npt.NDArray[np.float64]]
    leading: list[tuple[int, ...]]
    batch: int


class LinearClient(RegionClient):
    """Encrypts a region's inputs element by element and decrypts its outputs."""

    def __init__(self, program: LinearProgram, readouts: list[Readout]) -> None:
        self.inputs, self.outputs = program.inputs, program.outputs
        self.max_batch = program.max_batch
        self._program, self._readouts = program, readouts

    def _fresh(self) -> list[Any]:
        """A client with a new key for every layer."""
        return [client_with_keys(layer.circuit) for layer in self._program.body.layers]

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        self._program.judge_batch(batch)
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
            raise ProtocolError("a reply to another backend's request")
        layers = self._program.body.layers
        pieces = iter(cut(reply, [layer.reply.size for layer in layers for _ in range(layer.elements(pending.batch))]))
        outputs = list[Array]()
        for place, (layer, readout, client) in enumerate(zip(layers, self._readouts, pending.clients, strict=True)):
            results = [decrypted(client, layer.reply, next(pieces)) for _ in range(layer.elements(pending.batch))]
            outputs += readout.values(np.concatenate(results), pending.scales[place], pending.leading[place])
        return outputs

    def request_bytes(self, batch: int) -> int:
        return self._program.body.request_bytes(batch)

    def reply_bytes(self, batch: int) -> int:
        return self._program.body.reply_bytes(batch)
