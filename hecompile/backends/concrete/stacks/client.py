"""The client's half of a linear stack: a fresh key per request, encryption, decryption. The server never imports this module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.backends.concrete.frames import cut
from hecompile.backends.concrete.opened import client_with_keys, decrypted
from hecompile.backends.concrete.stacks.program import StackReadout
from hecompile.backends.region_client import Pending, RegionClient, Secrets
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array

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
        self.max_batch = readout.program.max_batch
        self._program, self._readout = readout.program, readout

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        self._program.judge_batch(batch)
        client = client_with_keys(self._program.body.circuit)
        integers, scales = self._readout.integers(values)
        if len(integers) != batch:
            raise ProtocolError(f"region '{self._program.region}': {len(integers)} elements for a batch of {batch}")
        parts = [self._program.body.request.unwrap(client.encrypt(element[None]).serialize()) for element in integers]
        return parts, _Pending(self.reply_bytes(batch), client, scales)

    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        if not isinstance(pending, _Pending):
            raise ProtocolError("a reply to another backend's request")
        frame = self._program.body.reply
        pieces = cut(reply, [frame.size] * len(pending.scales))
        results = [decrypted(pending.client, frame, piece) for piece in pieces]
        return self._readout.values(np.concatenate(results), pending.scales)

    def request_bytes(self, batch: int) -> int:
        return self._program.body.request_bytes(batch)

    def reply_bytes(self, batch: int) -> int:
        return self._program.body.reply_bytes(batch)
