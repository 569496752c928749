"""The server's half of a region, and what a server keeps of a session. No class here has a field for a secret key."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError

__all__ = ["RegionServer", "RegionShard", "ReplyJoin", "Session"]


@dataclass(frozen=True)
class Session:
    """The public evaluation keys of one client, as `RegionServer.load_key` made them. Whoever knows the identifier may use them."""

    identifier: str = field(repr=False)
    keys: Mapping[str, object] = field(repr=False)


class RegionServer(ABC):
    """The server's half of a region: it holds weights, and computes on data that it cannot read."""

    max_batch: int
    worked_s: float = 0.0  # CPU seconds that evaluations took in other processes so far

    @abstractmethod
    def evaluate(self, payload: Buffer, batch: int, session: Session | None = None) -> Buffer:
        """The reply to a payload. Neither is copied on its way from or to the transport.

        Raises:
            ProtocolError: for a payload that does not follow the format.
        """

    @abstractmethod
    def request_bytes(self, batch: int) -> int:
        """The size of every well-formed payload at this batch size. For regions that reveal, the size of the largest one."""

    def use_device(self, name: str) -> None:
        """Compute products on this device ("cuda", "cuda:1") from now on. Called before the first request.

        Raises `ProtocolError` if the scheme or the machine cannot do that.
        """
        raise ProtocolError(f"--device {name}: only the scheme bfv computes on cuda devices; leave it out")

    def key_sizes(self) -> Mapping[str, int]:
        """The same sizes as the client's half declares."""
        return {}

    def cancel(self) -> None:  # noqa: B027
        """Stop the evaluation that is running, if the backend's evaluations take long enough to make that worthwhile."""

    def load_key(self, name: str, data: memoryview) -> object:
        """A key of `key_sizes` in the form in which a session keeps it. Raises `ProtocolError` if the data is not such a key."""
        return bytes(data)

    def held_bytes(self, name: str) -> int:
        """Bytes of memory that the loaded key takes."""
        return self.key_sizes()[name]


class ReplyJoin(ABC):
    """Joins the replies of a region's shards to one reply. It holds no weights, and may be sent to another process."""

    @abstractmethod
    def shards(self, batch: int) -> tuple[int, ...]:
        """The numbers of the shards that compute anything at this batch size."""

    @abstractmethod
    def join(self, request: Buffer, batch: int, replies: Mapping[int, bytes]) -> bytes:
        """The reply that one server would give to a payload, from the replies of the shards by their numbers."""


class RegionShard(RegionServer):
    """One of several servers that compute a region together, from the same payloads."""

    joining: ReplyJoin
