"""`ckks` without encryption: the same slot programs on plain vectors. The oracle, and what quality is measured with."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hecompile.backends.ckks.document import SlotDocument, judged_row
from hecompile.backends.ckks.engine import ClearEngine
from hecompile.backends.ckks.layout import INPUT_RANGE
from hecompile.backends.ckks.messages import placed, read, row_of
from hecompile.backends.ckks.ranges import excursions
from hecompile.backends.region_client import Pending, RegionClient, Secrets
from hecompile.backends.region_server import RegionServer, Session
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array

__all__ = ["SimulatedClient", "SimulatedServer"]


def _request_bytes(document: SlotDocument, batch: int) -> int:
    document.judge_batch(batch)
    return 8 + 8 * batch * len(document.body.uploads) * document.body.program.ring.slots


@dataclass(frozen=True, repr=False)
class _Pending(Pending):
    batch: int


class SimulatedClient(RegionClient):
    """Sends slots as they are."""

    def __init__(self, document: SlotDocument) -> None:
        self.inputs, self.outputs, self.max_batch = document.inputs, document.outputs, document.max_batch
        self._document = document

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        named = dict(zip(self.inputs, values, strict=True))
        self._document.judge_batch(batch)
        parts: list[Buffer] = [struct.pack("<Q", row_of(self._document, named))]
        for element in range(batch):
            parts += [placed(self._document, each, named, element, INPUT_RANGE).tobytes() for each in self._document.body.uploads]
        return parts, _Pending(self.reply_bytes(batch), batch)

    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        if not isinstance(pending, _Pending) or len(reply) != self.reply_bytes(pending.batch):
            raise ProtocolError(f"region '{self._document.region}': a reply of {len(reply)} bytes is not an answer")
        vectors = np.frombuffer(reply, np.float64)
        return read(self._document, vectors.reshape(pending.batch, len(self._document.body.results), -1))

    def excursions(self, values: Sequence[Array], outputs: Sequence[Array]) -> tuple[str, ...]:
        return excursions(self._document, values, outputs)

    def request_bytes(self, batch: int) -> int:
        return _request_bytes(self._document, batch)

    def reply_bytes(self, batch: int) -> int:
        self._document.judge_batch(batch)
        return 8 * batch * len(self._document.body.results) * self._document.body.program.ring.slots


class SimulatedServer(RegionServer):
    """Interprets the slot program."""

    def __init__(self, document: SlotDocument, tables: Mapping[str, Array]) -> None:
        self.max_batch = document.max_batch
        self._document, self._tables = document, tables

    def request_bytes(self, batch: int) -> int:
        return _request_bytes(self._document, batch)

    def evaluate(self, payload: bytes, batch: int, session: Session | None = None) -> bytes:
        document = self._document
        if len(payload) != self.request_bytes(batch):
            raise ProtocolError(f"region '{document.region}', batch {batch}: {len(payload)} bytes")
        row = judged_row(document, *struct.unpack_from("<Q", payload))
        vectors = np.frombuffer(payload, np.float64, offset=8).reshape(batch, len(document.body.uploads), -1)
        engine = ClearEngine(document.body.program, self._tables, row)
        outputs = engine.run({upload.name: vectors[:, place] for place, upload in enumerate(document.body.uploads)})
        answers = np.stack([outputs[result.output].data for result in document.body.results], axis=1)
        reply: bytes = answers.astype(np.float64).tobytes()
        return reply
