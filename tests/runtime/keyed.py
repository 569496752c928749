"""A region that needs evaluation keys and says what happened to them; nothing in it is encrypted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hecompile.backends.region_client import Pending, RegionClient, Secrets
from hecompile.backends.region_server import RegionServer, Session
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array

SIZES = {"mask": 64}


@dataclass(frozen=True, repr=False)
class KeyedPending(Pending):
    secret: bytes


class KeyedClient(RegionClient):
    """Sends its input and a tag of its secret."""

    inputs: ClassVar[tuple[str, ...]] = ("x",)  # type: ignore[misc]
    outputs: ClassVar[tuple[str, ...]] = ("y",)  # type: ignore[misc]

    def __init__(self) -> None:
        self.made = 0

    def key_sizes(self) -> Mapping[str, int]:
        return SIZES

    def evaluation_keys(self, secrets: Secrets) -> Mapping[str, bytes]:
        self.made += 1
        secrets["keyed"] = b"secret %d" % self.made
        return {"mask": hashlib.sha256(b"secret %d" % self.made).digest()}

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        assert secrets is not None
        secret = secrets["keyed"]
        assert isinstance(secret, bytes)
        return [hashlib.sha256(secret).digest(), values[0].tobytes()], KeyedPending(self.reply_bytes(batch), secret)

    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        return [np.frombuffer(reply, np.float32)]

    def request_bytes(self, batch: int) -> int:
        return 32 + 4 * batch

    def reply_bytes(self, batch: int) -> int:
        return 4 * batch


class KeyedServer(RegionServer):
    """Returns the input if the request's tag fits the session's key."""

    max_batch = 3

    def key_sizes(self) -> Mapping[str, int]:
        return SIZES

    def load_key(self, name: str, data: memoryview) -> object:
        if len(data) != 32:
            raise ProtocolError(f"key '{name}' is damaged: open a new session")
        return bytes(data)

    def request_bytes(self, batch: int) -> int:
        return 32 + 4 * batch

    def evaluate(self, payload: Buffer, batch: int, session: Session | None = None) -> Buffer:
        assert session is not None
        if payload[:32] != session.keys["mask"]:
            raise ProtocolError("encrypted for the keys of another session: open a new session")
        return payload[32:]
