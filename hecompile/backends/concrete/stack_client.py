"""The client's half of a linear stack: a fresh key per request, encryption, decryption. The server never imports this module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.backends.base import Array, Pending, RegionClient, Secrets
from hecompile.backends.concrete.circuits import concrete
from hecompile.backends.concrete.program import cut
from hecompile.backends.concrete.stack_program import StackReadout
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError

__all__ = ["StackClient"]


@dataclass(frozen=True, repr=False)
class _Pending(Pending):
    """The client with its key, and the elements' scales."""

    client: Any
    scales: npt.NDArray[np.float64]


class StackClient(RegionClient):
    """Encrypts all inputs of an element as one vector and decrypts all outputs from one."""

    def __init__(self, readout: StackReadout) -> None:
        self.inputs, self.outputs = readout.program.inputs, readout.program.outputs
        self._program, self._readout = readout.program, readout
        self._specs: Any = None

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        self._program.judge_batch(batch)
        fhe = concrete()
        self._specs = self._specs or fhe.ClientSpecs.deserialize(self._program.specs.encode())
        client = fhe.Client(self._specs)
        client.keygen(force=True)
        integers, scales = self._readout.integers(values)
        parts = [self._program.request.unwrap(client.encrypt(element[None]).serialize()) for element in integers]
        return parts, _Pending(self.reply_bytes(batch), client, scales)

    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        if not isinstance(pending, _Pending):
            raise ProtocolError("a reply to another backend's request")
        value, frame = concrete().Value, self._program.reply
        pieces = cut(reply, [frame.size] * len(pending.scales))
        results = [pending.client.decrypt(value.deserialize(frame.wrap(piece))) for piece in pieces]
        return self._readout.values(np.concatenate(results), pending.scales)

    def request_bytes(self, batch: int) -> int:
        return self._program.request_bytes(batch)

    def reply_bytes(self, batch: int) -> int:
        return self._program.reply_bytes(batch)
