"""A backend of your own: the plain polynomials of `clear` in half the bytes. A simulation, which hides nothing from the server.

It inherits proposals, lowering and documents, and says how requests look. A package adds it by an entry point of the group
`hecompile.backends`, `narrow = "own_backend:Narrow"`; then `hecompile compile digits --backend narrow -o out/narrow` finds it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hecompile.backends.bfv.clear.backend import ClearBackend
from hecompile.backends.region_client import Pending, RegionClient, Secrets
from hecompile.backends.region_server import RegionServer, Session
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array, ClientHalf, ServerHalf


class NarrowClient(RegionClient):
    def __init__(self, wide: RegionClient) -> None:
        self.wide, self.inputs, self.outputs, self.max_batch = wide, wide.inputs, wide.outputs, wide.max_batch

    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[bytes], Pending]:
        parts, pending = self.wide.encrypt(values, batch)
        return [np.frombuffer(b"".join(parts), "<i8").astype("<i4").tobytes()], pending  # integers of twelve bits

    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        return self.wide.decrypt(reply, pending)

    def request_bytes(self, batch: int) -> int:
        return self.wide.request_bytes(batch) // 2

    def reply_bytes(self, batch: int) -> int:
        return self.wide.reply_bytes(batch)


class NarrowServer(RegionServer):
    def __init__(self, wide: RegionServer) -> None:
        self.wide, self.max_batch = wide, wide.max_batch

    def evaluate(self, payload: Buffer, batch: int, session: Session | None = None) -> Buffer:
        if len(payload) != self.request_bytes(batch):  # it comes from a stranger: nothing about it is believed
            raise ProtocolError(f"batch {batch}: {len(payload)} bytes")
        return self.wide.evaluate(np.frombuffer(payload, "<i4").astype("<i8").tobytes(), batch)

    def request_bytes(self, batch: int) -> int:
        return self.wide.request_bytes(batch) // 2


class Narrow(ClearBackend):
    name = "narrow"

    def load_client(self, half: ClientHalf) -> RegionClient:
        return NarrowClient(super().load_client(half))

    def load_server(self, half: ServerHalf) -> RegionServer:
        return NarrowServer(super().load_server(half))
