"""The server's half of linear circuits: words in, words out, evaluated by worker processes. Nothing here can hold a secret key."""

from __future__ import annotations

from hecompile.backends.base import RegionServer, Session
from hecompile.backends.concrete.program import LinearProgram, cut
from hecompile.backends.concrete.workers import Job, ServerCircuit, workers

__all__ = ["LinearServer"]

LIMIT_S = 30.0  # of one ciphertext; a layer of a small UNet takes a quarter of a second


class LinearServer(RegionServer):
    """Answers requests for one region; keeps nothing between them."""

    def __init__(self, program: LinearProgram, circuits: list[ServerCircuit]) -> None:
        self.max_batch = program.max_batch
        self._program, self._circuits = program, circuits

    def cancel(self) -> None:
        workers().cancel()

    def request_bytes(self, batch: int) -> int:
        return self._program.request_bytes(batch)

    def evaluate(self, payload: bytes, batch: int, session: Session | None = None) -> bytes:
        self._program.judge_batch(batch)
        layers = self._program.layers
        pieces = iter(cut(payload, [layer.request.size for layer in layers for _ in range(layer.elements(batch))]))
        jobs = [
            Job(circuit, (layer.request.wrap(next(pieces)),))
            for layer, circuit in zip(layers, self._circuits, strict=True)
            for _ in range(layer.elements(batch))
        ]
        frames = [layer.reply for layer in layers for _ in range(layer.elements(batch))]
        done = workers().run(jobs, LIMIT_S)
        self.worked_s += sum(each.cpu_s for each in done)
        return b"".join(frame.unwrap(each.results[0]) for frame, each in zip(frames, done, strict=True))
