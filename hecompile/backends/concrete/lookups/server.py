"""The server's side of a region with table lookups: worker processes evaluate requests with a session's evaluation keys."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from hecompile.backends.concrete.frames import cut
from hecompile.backends.concrete.keysets import check_keys
from hecompile.backends.concrete.lookups.program import LookupProgram, key_name
from hecompile.backends.concrete.workers import Job, ServerCircuit, workers
from hecompile.backends.region_server import RegionServer, Session
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError

__all__ = ["LookupServer"]


@dataclass(frozen=True)
class _Keys:
    """Serialised evaluation keys, and the checksum by which workers name them."""

    name: str
    data: bytes = field(repr=False)


class LookupServer(RegionServer):
    """Answers requests for one region, in sessions that have sent its evaluation keys."""

    def __init__(self, program: LookupProgram, circuit: ServerCircuit) -> None:
        self.max_batch = program.max_batch
        self._program, self._body, self._key_name = program, program.body, key_name(program)
        self._circuit = circuit

    def key_sizes(self) -> Mapping[str, int]:
        return {self._key_name: self._body.key_bytes}

    def load_key(self, name: str, data: memoryview) -> object:
        if len(data) != self._body.key_bytes:
            raise ProtocolError(
                f"key '{name}' has {len(data)} bytes, expected {self._body.key_bytes}: it is cut off, or of another circuit"
            )
        check_keys(name, data, self._body.circuit.numbers)
        keys = bytes(data)
        return _Keys(hashlib.sha256(keys).hexdigest(), keys)

    def cancel(self) -> None:
        workers().cancel(self)

    def request_bytes(self, batch: int) -> int:
        return batch * self._body.request.size

    def evaluate(self, payload: Buffer, batch: int, session: Session | None = None) -> Buffer:
        body = self._body
        self._program.check_batch(batch)
        keys = None if session is None else session.keys.get(self._key_name)
        if not isinstance(keys, _Keys):
            raise ProtocolError(f"region '{self._program.region}' needs a session with evaluation keys")
        pieces = cut(bytes(payload), [body.request.size] * batch)
        jobs = [Job(self._circuit, (body.request.wrap(piece),), keys.name, keys.data, self._key_name, self) for piece in pieces]
        done = workers().run(jobs, body.limit_s)
        self.worked_s += sum(job.cpu_s for job in done)
        return b"".join(body.reply.unwrap(job.results[0]) for job in done)
