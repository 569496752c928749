"""The server's side of a region under `ckks_clear`."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

from hecompile.backends.ckks.document import SlotDocument, checked_row
from hecompile.backends.ckks.engine import ClearEngine
from hecompile.backends.ckks.simulation.sizes import simulated_request_bytes
from hecompile.backends.region_server import RegionServer, Session
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array

__all__ = ["SimulatedServer"]


class SimulatedServer(RegionServer):
    """Runs the slot program on plain vectors, for all elements of a batch at a time."""

    def __init__(self, document: SlotDocument, tables: Mapping[str, Array]) -> None:
        self.max_batch = document.max_batch
        self._document, self._tables = document, tables

    def request_bytes(self, batch: int) -> int:
        return simulated_request_bytes(self._document, batch)

    def evaluate(self, payload: Buffer, batch: int, session: Session | None = None) -> Buffer:
        document = self._document
        if len(payload) != self.request_bytes(batch):
            raise ProtocolError(
                f"region '{document.region}', batch {batch}: {len(payload)} bytes, expected {self.request_bytes(batch)}"
            )
        row = checked_row(document, *struct.unpack_from("<Q", payload))
        vectors = np.frombuffer(payload, np.float64, offset=8).reshape(batch, len(document.body.uploads), -1)
        engine = ClearEngine(document.body.program, self._tables, row)
        outputs = engine.run({upload.name: vectors[:, place] for place, upload in enumerate(document.body.uploads)})
        answers = np.stack([outputs[result.output].data for result in document.body.results], axis=1)
        reply: bytes = answers.astype(np.float64).tobytes()
        return reply
