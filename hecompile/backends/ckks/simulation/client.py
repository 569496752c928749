"""The client's side of a region under `ckks_clear`."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hecompile.backends.ckks.document import SlotDocument
from hecompile.backends.ckks.layout import INPUT_RANGE
from hecompile.backends.ckks.messages import placed, read, row_of
from hecompile.backends.ckks.ranges import out_of_range
from hecompile.backends.ckks.simulation.sizes import simulated_request_bytes
from hecompile.backends.region_client import Pending, RegionClient, Secrets
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array

__all__ = ["SimulatedClient"]


@dataclass(frozen=True, repr=False)
class _Pending(Pending):
    """What a request needs until its reply comes: the size of the batch."""

    batch: int


class SimulatedClient(RegionClient):
    """Sends the vectors of slots to the server without encryption."""

    def __init__(self, document: SlotDocument) -> None:
        self.inputs, self.outputs, self.max_batch = document.inputs, document.outputs, document.max_batch
        self._document = document

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        named = dict(zip(self.inputs, values, strict=True))
        self._document.check_batch(batch)
        parts: list[Buffer] = [struct.pack("<Q", row_of(self._document, named))]
        for element in range(batch):
            for upload in self._document.body.uploads:
                parts.append(placed(self._document, upload, named, element, INPUT_RANGE).tobytes())
        return parts, _Pending(self.reply_bytes(batch), batch)

    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        if not isinstance(pending, _Pending) or len(reply) != self.reply_bytes(pending.batch):
            raise ProtocolError(f"region '{self._document.region}': the reply has {len(reply)} bytes, which is not its size")
        vectors = np.frombuffer(reply, np.float64)
        return read(self._document, vectors.reshape(pending.batch, len(self._document.body.results), -1))

    has_ranges = True

    def out_of_range(self, values: Sequence[Array], outputs: Sequence[Array]) -> tuple[str, ...]:
        return out_of_range(self._document, values, outputs)

    def request_bytes(self, batch: int) -> int:
        return simulated_request_bytes(self._document, batch)

    def reply_bytes(self, batch: int) -> int:
        self._document.check_batch(batch)
        return 8 * batch * len(self._document.body.results) * self._document.body.program.ring.slots
