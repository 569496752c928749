"""The server's side of linear circuits, which worker processes evaluate. Nothing here can hold a secret key."""

from __future__ import annotations

from typing import Protocol

from hecompile.backends.concrete.frames import Frame, cut
from hecompile.backends.concrete.workers import Job, ServerCircuit, workers
from hecompile.backends.program_io import check_batch
from hecompile.backends.region_server import RegionServer, Session
from hecompile.buffers import Buffer

__all__ = ["LinearServer"]

LIMIT_S = 30.0  # time limit of one ciphertext; a layer of a small UNet takes a quarter of a second


class Circuits(Protocol):
    """The part of a document's body that a server uses."""

    @property
    def max_batch(self) -> int: ...
    def request_bytes(self, batch: int) -> int: ...
    def ciphertexts(self, batch: int) -> list[tuple[int, Frame, Frame]]:
        """For every ciphertext of a request, in order: the number of its circuit, and the frames of request and reply."""
        ...


class LinearServer(RegionServer):
    """Answers requests for one region, and keeps nothing between them."""

    def __init__(self, body: Circuits, circuits: list[ServerCircuit]) -> None:
        self.max_batch = body.max_batch
        self._body, self._circuits = body, circuits

    def cancel(self) -> None:
        workers().cancel(self)

    def request_bytes(self, batch: int) -> int:
        return self._body.request_bytes(batch)

    def evaluate(self, payload: Buffer, batch: int, session: Session | None = None) -> Buffer:
        check_batch(batch, self.max_batch)
        wanted = self._body.ciphertexts(batch)
        pieces = cut(bytes(payload), [request.size for _, request, _ in wanted])
        jobs = [
            Job(self._circuits[place], (request.wrap(piece),), owner=self)
            for (place, request, _), piece in zip(wanted, pieces, strict=True)
        ]
        done = workers().run(jobs, LIMIT_S)
        self.worked_s += sum(job.cpu_s for job in done)
        return b"".join(reply.unwrap(job.results[0]) for (*_, reply), job in zip(wanted, done, strict=True))
