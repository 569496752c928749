"""The client's side of a `ckks` region, which encrypts under the session's secret key. No server imports this module."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hecompile.backends.ckks.document import SlotDocument
from hecompile.backends.ckks.keys import key_sizes, key_tag, relin_name, rotation_name
from hecompile.backends.ckks.layout import INPUT_RANGE
from hecompile.backends.ckks.messages import placed, read, row_of
from hecompile.backends.ckks.ranges import out_of_range
from hecompile.backends.ckks.seal import fresh_bytes, reply_bytes
from hecompile.backends.ckks.secret import SecretKey
from hecompile.backends.region_client import Pending, RegionClient, Secrets
from hecompile.buffers import Buffer
from hecompile.errors import InternalError, ProtocolError
from hecompile.ir.halves import Array

__all__ = ["CkksClient"]

HEAD_BYTES = 24  # of a request: the tag of the session's keys, and the row of the timestep tables


@dataclass(frozen=True, repr=False)
class _Pending(Pending):
    """What a request needs until its reply comes: the secret key, and the size of the batch."""

    key: SecretKey
    batch: int


@dataclass(frozen=True, repr=False)
class _Secret:
    """The secret key of a ring in a session, and the tag of its public relinearization key, which requests begin with."""

    key: SecretKey
    tag: bytes


class CkksClient(RegionClient):
    """Clips a region's inputs to [-INPUT_RANGE, INPUT_RANGE], encrypts them, and decrypts the region's outputs."""

    def __init__(self, document: SlotDocument) -> None:
        self.inputs, self.outputs, self.max_batch = document.inputs, document.outputs, document.max_batch
        self._document, self._ring = document, document.body.program.ring

    def key_sizes(self) -> Mapping[str, int]:
        return key_sizes(self._document.body.program)

    def evaluation_keys(self, secrets: Secrets) -> Mapping[str, bytes]:
        ring, new_keys = self._ring, dict[str, bytes]()
        if ring.name not in secrets:
            key = SecretKey(ring)
            new_keys[relin_name(ring)] = key.relinearization_key()
            secrets[ring.name] = _Secret(key, key_tag(new_keys[relin_name(ring)]))
        secret = self._secret(secrets)
        for steps in self._document.body.program.steps:
            name = rotation_name(ring, steps)
            if name not in secrets:
                secrets[name] = True
                new_keys[name] = secret.key.galois_key(steps)
        return new_keys

    def _secret(self, secrets: Secrets | None) -> _Secret:
        """The session's secret key for this region's ring. Raises `InternalError` outside a session."""
        secret = None if secrets is None else secrets.get(self._ring.name)
        if not isinstance(secret, _Secret):
            raise InternalError(f"region '{self._document.region}' is called outside a session")
        return secret

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        document, secret = self._document, self._secret(secrets)
        document.check_batch(batch)
        named = dict(zip(self.inputs, values, strict=True))
        parts: list[Buffer] = [secret.tag, struct.pack("<Q", row_of(document, named))]
        for element in range(batch):
            for upload in document.body.uploads:
                vector = placed(document, upload, named, element, INPUT_RANGE)
                parts.append(secret.key.encrypt(vector, upload.level, upload.scale))
        return parts, _Pending(self.reply_bytes(batch), secret.key, batch)

    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        if not isinstance(pending, _Pending):
            raise ProtocolError("this reply belongs to a request of another backend")
        document = self._document
        if len(reply) != self.reply_bytes(pending.batch):
            raise ProtocolError(
                f"region '{document.region}': the reply has {len(reply)} bytes, expected {self.reply_bytes(pending.batch)}"
            )
        vectors, start = [], 0
        for _ in range(pending.batch):
            for result in document.body.results:
                size = reply_bytes(self._ring, result.level)
                data = memoryview(reply)[start : start + size]
                vectors.append(pending.key.decrypt(data, result.level, result.scale))
                start += size
        return read(document, np.stack(vectors).reshape(pending.batch, len(document.body.results), -1))

    has_ranges = True

    def out_of_range(self, values: Sequence[Array], outputs: Sequence[Array]) -> tuple[str, ...]:
        return out_of_range(self._document, values, outputs)

    def request_bytes(self, batch: int) -> int:
        self._document.check_batch(batch)
        return HEAD_BYTES + batch * sum(fresh_bytes(self._ring, upload.level) for upload in self._document.body.uploads)

    def reply_bytes(self, batch: int) -> int:
        self._document.check_batch(batch)
        return batch * sum(reply_bytes(self._ring, result.level) for result in self._document.body.results)
