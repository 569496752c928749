"""The server's side of a `ckks` region. It holds tables and the evaluation keys of sessions, never a secret key."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from hecompile.backends.ckks.document import SlotDocument, checked_row
from hecompile.backends.ckks.keys import TAG_BYTES, LoadedKey, held_bytes, key_sizes, load_key, relin_name
from hecompile.backends.ckks.processes import evaluated
from hecompile.backends.ckks.seal import SEAL_ERRORS, fresh_bytes, load_fresh, save_answer
from hecompile.backends.ckks.seal_engine import Plaintexts, SealEngine
from hecompile.backends.region_server import RegionServer, Session
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array

__all__ = ["CkksServer"]

HEAD_BYTES = TAG_BYTES + 8  # of a request: the tag of the session's keys, and the row of the timestep tables


class CkksServer(RegionServer):
    """Runs the slot program of one region for each element of a batch, on all cores."""

    def __init__(self, document: SlotDocument, tables: Mapping[str, Array]) -> None:
        self.max_batch = document.max_batch
        self._document, self._tables, self._plaintexts = document, tables, Plaintexts()

    def key_sizes(self) -> Mapping[str, int]:
        return key_sizes(self._document.body.program)

    def held_bytes(self, name: str) -> int:
        return held_bytes(self._document.body.program)[name]

    def load_key(self, name: str, data: memoryview) -> object:
        try:
            return load_key(self._document.body.program, name, data)
        except ProtocolError as error:
            raise ProtocolError(f"region '{self._document.region}': {error}") from error
        except MemoryError as error:
            raise self._no_memory() from error

    def request_bytes(self, batch: int) -> int:
        self._document.check_batch(batch)
        return HEAD_BYTES + batch * self._element_bytes

    @property
    def _element_bytes(self) -> int:
        """Bytes of a request for one element of the batch."""
        return sum(fresh_bytes(self._document.body.program.ring, upload.level) for upload in self._document.body.uploads)

    def evaluate(self, payload: Buffer, batch: int, session: Session | None = None) -> Buffer:
        document = self._document
        if len(payload) != self.request_bytes(batch):
            expected = self.request_bytes(batch)
            raise ProtocolError(f"region '{document.region}', batch {batch}: {len(payload)} bytes, expected {expected}")
        keys = {} if session is None else session.keys
        missing = sorted(set(self.key_sizes()) - set(keys))
        if missing:
            raise ProtocolError(f"region '{document.region}': no evaluation key '{missing[0]}': open a new session", status=410)
        own = keys[relin_name(document.body.program.ring)]
        if isinstance(own, LoadedKey) and payload[:TAG_BYTES] != own.tag:
            raise ProtocolError(
                f"region '{document.region}': encrypted for the keys of another session: open a new session", status=410
            )
        row = checked_row(document, *struct.unpack_from("<Q", payload, TAG_BYTES))
        body, size = memoryview(payload)[HEAD_BYTES:], self._element_bytes
        pieces = [body[place * size : (place + 1) * size] for place in range(batch)]
        return b"".join(evaluated(lambda piece: self._element(piece, row, keys), pieces))

    def _element(self, data: memoryview, row: int, keys: Mapping[str, object]) -> bytes:
        """Compute the answer for one element of the batch.

        Raises:
            ProtocolError: naming the region, and the layer if SEAL refuses one of its operations.
        """
        document, ring = self._document, self._document.body.program.ring
        engine = SealEngine(document.body.program, self._tables, row, keys, self._plaintexts)
        inputs, start = dict[str, Any](), 0
        try:
            for upload in document.body.uploads:
                size = fresh_bytes(ring, upload.level)
                inputs[upload.name] = load_fresh(data[start : start + size], ring, upload.level, upload.scale)
                start += size
            outputs = engine.run(inputs)
            return b"".join(save_answer(outputs[result.output].data, ring, result.level) for result in document.body.results)
        except ProtocolError as error:
            raise ProtocolError(f"region '{document.region}': {error}", error.status) from error
        except MemoryError as error:
            raise self._no_memory() from error
        except SEAL_ERRORS as error:
            raise ProtocolError(
                f"region '{document.region}', layer '{engine.label}': SEAL refuses an operation: {error}"
            ) from error

    def _no_memory(self) -> ProtocolError:
        """The error for a server without free memory."""
        return ProtocolError(f"region '{self._document.region}': the server has no memory left: come back later", status=503)
