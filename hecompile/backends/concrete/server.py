"""The server's half of linear circuits: words in, words out, evaluated by worker processes. Nothing here can hold a secret key."""

from __future__ import annotations

from typing import Protocol

from hecompile.backends.concrete.frames import Frame, cut
from hecompile.backends.concrete.workers import Job, ServerCircuit, workers
from hecompile.backends.program_io import judge_batch
from hecompile.backends.region_server import RegionServer, Session
from hecompile.buffers import Buffer

__all__ = ["LinearServer"]

LIMIT_S = 30.0  # of one ciphertext; a layer of a small UNet takes a quarter of a second


class Circuits(Protocol):
    """What a server reads of a document's body."""

    @property
    def max_batch(self) -> int: ...
    def request_bytes(self, batch: int) -> int: ...
    def ciphertexts(self, batch: int) -> list[tuple[int, Frame, Frame]]:
        """The circuit, request and reply of every ciphertext, in order."""
        ...


class LinearServer(RegionServer):
    """Answers requests for one region; keeps nothing between them."""

    def __init__(self, body: Circuits, circuits: list[ServerCircuit]) -> None:
        self.max_batch = body.max_batch
        self._body, self._circuits = body, circuits

    def cancel(self) -> None:
        workers().cancel(self)

    def request_bytes(self, batch: int) -> int:
        return self._body.request_bytes(batch)

    def evaluate(self, payload: Buffer, batch: int, session: Session | None = None) -> Buffer:
        judge_batch(batch, self.max_batch)
        wanted = self._body.ciphertexts(batch)
        pieces = cut(bytes(payload), [request.size for _, request, _ in wanted])
        jobs = [
            Job(self._circuits[place], (request.wrap(piece),), owner=self)
            for (place, request, _), piece in zip(wanted, pieces, strict=True)
        ]
        done = workers().run(jobs, LIMIT_S)
        self.worked_s += sum(each.cpu_s for each in done)
        return b"".join(reply.unwrap(each.results[0]) for (*_, reply), each in zip(wanted, done, strict=True))
