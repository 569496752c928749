"""A region whose payloads are evaluated by workers. To the service it is a region's server like any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hecompile.backends.program_io import judge_batch
from hecompile.backends.region_server import RegionServer, Session
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.runtime.serving.replica import DescribedRegion, Refused

__all__ = ["RemoteRegion", "Workers"]


class Workers(Protocol):
    """Whoever evaluates: some of each of the shards."""

    def evaluate(self, shards: Sequence[int], region: str, payload: bytes, batch: int) -> dict[int, bytes | Refused]:
        """What one worker of each of these shards replies, by shard.

        Raises:
            RefusalError: if no worker could be found that evaluates it.
        """
        ...


class RemoteRegion(RegionServer):
    """Hands payloads to workers, and makes one reply of what shards return. Holds no weights."""

    def __init__(self, name: str, described: DescribedRegion, workers: Workers) -> None:
        self.max_batch = len(described.payload_bytes)
        self._name, self._described, self._workers = name, described, workers

    def request_bytes(self, batch: int) -> int:
        judge_batch(batch, self.max_batch)
        return self._described.payload_bytes[batch - 1]

    def evaluate(self, payload: Buffer, batch: int, session: Session | None = None) -> Buffer:
        judge_batch(batch, self.max_batch)
        joining = self._described.joining
        shards = (0,) if joining is None else joining.shards(batch)
        found = self._workers.evaluate(shards, self._name, bytes(payload), batch)
        replies = dict[int, bytes]()
        for index, reply in found.items():
            if isinstance(reply, Refused):
                raise ProtocolError(reply.reason, status=reply.status)
            replies[index] = reply
        return replies[0] if joining is None else joining.join(payload, batch, replies)
