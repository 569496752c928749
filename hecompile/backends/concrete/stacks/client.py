"""The client's side of a stack: it makes a fresh key for a request, encrypts and decrypts. No server imports this module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hecompile.backends.concrete.client_keys import client_with_keys, decrypted
from hecompile.backends.concrete.frames import cut
from hecompile.backends.concrete.stacks.program import StackDequantizer
from hecompile.backends.region_client import Pending, RegionClient, Secrets
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array

__all__ = ["StackClient"]


@dataclass(frozen=True, repr=False)
class _Pending(Pending):
    """What a request needs until its reply comes: the client of Concrete with its key, and the scale of each element."""

    client: Any
    scales: npt.NDArray[np.float64]


class StackClient(RegionClient):
    """Encrypts all inputs of an element as one vector, and decrypts all its outputs from one."""

    def __init__(self, dequantizer: StackDequantizer) -> None:
        self.inputs, self.outputs = dequantizer.program.inputs, dequantizer.program.outputs
        self.max_batch = dequantizer.program.max_batch
        self._program, self._dequantizer = dequantizer.program, dequantizer

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        self._program.check_batch(batch)
        client = client_with_keys(self._program.body.circuit)
        integers, scales = self._dequantizer.integers(values)
        if len(integers) != batch:
            raise ProtocolError(
                f"region '{self._program.region}': the inputs have {len(integers)} elements, but the batch has {batch}"
            )
        parts = [self._program.body.request.unwrap(client.encrypt(element[None]).serialize()) for element in integers]
        return parts, _Pending(self.reply_bytes(batch), client, scales)

    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        if not isinstance(pending, _Pending):
            raise ProtocolError("this reply belongs to a request of another backend")
        frame = self._program.body.reply
        pieces = cut(reply, [frame.size] * len(pending.scales))
        results = [decrypted(pending.client, frame, piece) for piece in pieces]
        return self._dequantizer.values(np.concatenate(results), pending.scales)

    def request_bytes(self, batch: int) -> int:
        return self._program.body.request_bytes(batch)

    def reply_bytes(self, batch: int) -> int:
        return self._program.body.reply_bytes(batch)
