"""The client's side of a region with table lookups: it makes keys once per session, encrypts and decrypts. No server imports it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hecompile.backends.concrete.client_keys import client_with_keys, decrypted
from hecompile.backends.concrete.frames import cut
from hecompile.backends.concrete.lookups.lowering import Quantiser
from hecompile.backends.concrete.lookups.program import LookupProgram, key_name
from hecompile.backends.region_client import Pending, RegionClient, Secrets
from hecompile.buffers import Buffer
from hecompile.errors import InternalError, ProtocolError
from hecompile.ir.halves import Array

__all__ = ["LookupClient"]


@dataclass(frozen=True, repr=False)
class _Pending(Pending):
    """What a request needs until its reply comes: the client of Concrete with the session's keys, and the size of the batch."""

    client: Any
    batch: int


class LookupClient(RegionClient):
    """Quantises values with fixed scales, encrypts them under the session's key, and decrypts results."""

    def __init__(self, program: LookupProgram, source: Quantiser, result: Quantiser) -> None:
        self.inputs, self.outputs = program.inputs, program.outputs
        self.max_batch, self.timeout_s = program.max_batch, program.body.limit_s
        self._program, self._body, self._key_name = program, program.body, key_name(program)
        self._source, self._result = source, result

    def key_sizes(self) -> Mapping[str, int]:
        return {self._key_name: self._body.key_bytes}

    def evaluation_keys(self, secrets: Secrets) -> Mapping[str, bytes]:
        client = client_with_keys(self._body.circuit)
        keys: bytes = client.evaluation_keys.serialize()
        if len(keys) != self._body.key_bytes:
            raise ProtocolError(f"region '{self._program.region}': keys of {len(keys)} bytes, expected {self._body.key_bytes}")
        secrets[self._key_name] = client
        return {self._key_name: keys}

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        self._program.check_batch(batch)
        client: Any = None if secrets is None else secrets.get(self._key_name)
        if client is None:
            raise InternalError(f"region '{self._program.region}' is called outside a session")
        wanted = (batch, *self._body.circuit.input_shape[1:])
        if values[0].shape != wanted:
            raise ProtocolError(f"region '{self._program.region}': a value of shape {values[0].shape}, expected {wanted}")
        integers = self._source.quantise(values[0])
        parts = [self._body.request.unwrap(client.encrypt(element[None]).serialize()) for element in integers]
        return parts, _Pending(self.reply_bytes(batch), client, batch)

    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        if not isinstance(pending, _Pending):
            raise ProtocolError("this reply belongs to a request of another backend")
        frame = self._body.reply
        pieces = cut(reply, [frame.size] * pending.batch)
        results = [decrypted(pending.client, frame, piece) for piece in pieces]
        return [self._result.value(np.concatenate(results))]

    def request_bytes(self, batch: int) -> int:
        return batch * self._body.request.size

    def reply_bytes(self, batch: int) -> int:
        return batch * self._body.reply.size
