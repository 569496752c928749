"""A region whose requests are evaluated by workers. The service uses it like any other region of a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hecompile.backends.program_io import check_batch
from hecompile.backends.region_server import RegionServer, Session
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.runtime.serving.replica import RegionDescription, WorkerRefusal

__all__ = ["RemoteRegion", "Workers"]


class Workers(Protocol):
    """Processes that evaluate requests, at least one for each shard."""

    def evaluate(self, shards: Sequence[int], region: str, payload: bytes, batch: int) -> dict[int, bytes | WorkerRefusal]:
        """Return the reply of one worker of each of these shards, by shard.

        Raises:
            RefusalError: if no worker could evaluate it.
        """
        ...


class RemoteRegion(RegionServer):
    """Passes requests to workers and joins the replies of shards into one. It holds no weights."""

    def __init__(self, name: str, described: RegionDescription, workers: Workers) -> None:
        self.max_batch = len(described.payload_bytes)
        self._name, self._described, self._workers = name, described, workers

    def request_bytes(self, batch: int) -> int:
        check_batch(batch, self.max_batch)
        return self._described.payload_bytes[batch - 1]

    def evaluate(self, payload: Buffer, batch: int, session: Session | None = None) -> Buffer:
        check_batch(batch, self.max_batch)
        joining = self._described.joining
        shards = (0,) if joining is None else joining.shards(batch)
        outcomes = self._workers.evaluate(shards, self._name, bytes(payload), batch)
        replies = dict[int, bytes]()
        for index, reply in outcomes.items():
            if isinstance(reply, WorkerRefusal):
                raise ProtocolError(reply.reason, status=reply.status)
            replies[index] = reply
        return replies[0] if joining is None else joining.join(payload, batch, replies)
