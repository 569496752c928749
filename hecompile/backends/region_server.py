"""The server's half of a region: what a server keeps of a session, and what it evaluates. No class has a field for a secret key."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError

__all__ = ["RegionServer", "RegionShard", "ReplyJoin", "Session"]


@dataclass(frozen=True)
class Session:
    """Public evaluation keys of one client at the server, as `RegionServer.load_key` made them. The identifier is a capability."""

    identifier: str = field(repr=False)
    keys: Mapping[str, object] = field(repr=False)


class RegionServer(ABC):
    """The server's half of a region: weights, and the evaluation on what it cannot read."""

    max_batch: int
    worked_s: float = 0.0  # CPU seconds so far of evaluations in other processes

    @abstractmethod
    def evaluate(self, payload: Buffer, batch: int, session: Session | None = None) -> Buffer:
        """The reply to a payload, which is part of a request's body: nothing is copied on the way here, nor on the way back.

        Raises:
            ProtocolError: for a payload that is not what the format says.
        """

    @abstractmethod
    def request_bytes(self, batch: int) -> int:
        """Size of every well-formed payload at this batch; of the largest, where a region reveals."""

    def use_device(self, name: str) -> None:
        """Compute products on that device ("cuda", "cuda:1") from now on, before the first request.

        Raises `ProtocolError` where that cannot be done.
        """
        raise ProtocolError(f"--device {name}: only the scheme bfv computes on cuda devices; leave it out")

    def key_sizes(self) -> Mapping[str, int]:
        """The same as the client half declares."""
        return {}

    def cancel(self) -> None:  # noqa: B027
        """Give up what is being evaluated, where that takes long enough to be worth it."""

    def load_key(self, name: str, data: memoryview) -> object:
        """A key of `key_sizes` ready for use, kept in the session under its name. Raises `ProtocolError` unless it is that key."""
        return bytes(data)

    def held_bytes(self, name: str) -> int:
        """Memory that the loaded key takes."""
        return self.key_sizes()[name]


class ReplyJoin(ABC):
    """How the replies of a region's shards become its reply. It holds no weights, and may be sent to another process."""

    @abstractmethod
    def shards(self, batch: int) -> tuple[int, ...]:
        """The shards that have anything to evaluate at this batch size."""

    @abstractmethod
    def join(self, request: Buffer, batch: int, replies: Mapping[int, bytes]) -> bytes:
        """The reply that one server would give to a payload, from those of the shards by their numbers."""


class RegionShard(RegionServer):
    """One of several servers that evaluate a region together, from the same payloads."""

    joining: ReplyJoin
