"""The client's half of a region, which may hold secrets. No module that a server loads imports this one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from hecompile.buffers import Buffer

__all__ = ["Array", "Pending", "RegionClient", "Secrets"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, repr=False)
class Pending:
    """What the client keeps between a request and its reply, such as a fresh key and scales. It is never sent and never printed."""

    reply_size: int  # bytes of the reply, which are known beforehand

    def __repr__(self) -> str:
        return f"{type(self).__name__}(hidden)"


class Secrets(dict[str, object]):
    """The client's secret keys of one session, under names that the backend chooses. They are never sent and never printed."""

    def __repr__(self) -> str:
        return "Secrets(hidden)"


class RegionClient(ABC):
    """The client's half of a region: it encrypts the inputs of every request and decrypts the outputs that the server returns."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    max_batch: int
    timeout_s: float = 60.0  # seconds that a reply may take; a remote server is given twice that
    has_ranges: bool = False  # whether `out_of_range` checks anything

    def start_run(self) -> None:  # noqa: B027
        """Begin a new sampling run: forget what was kept of the last one. Most regions keep nothing."""

    @abstractmethod
    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        """The request's payload in pieces, for float32 inputs in the order of `inputs`, and what is kept for its reply.

        Sizes depend on `batch` alone, or also on how much the region reveals. `secrets` are those of the session, for regions that
        declare keys.
        """

    @abstractmethod
    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        """The region's float32 outputs. Raises `ProtocolError` if the size or the words of the reply are wrong."""

    def reply_size(self, pending: Pending) -> int:
        """The exact size in bytes of the reply to this request."""
        return pending.reply_size

    @abstractmethod
    def request_bytes(self, batch: int) -> int:
        """The size of every payload at this batch size. For regions that reveal, the size of the largest one."""

    @abstractmethod
    def reply_bytes(self, batch: int) -> int:
        """The size of every reply at this batch size. For regions that reveal, the size of the largest one."""

    def out_of_range(self, values: Sequence[Array], outputs: Sequence[Array]) -> tuple[str, ...]:
        """A sentence for each range that a call's inputs or outputs left. It names layers and a way out, but no value."""
        return ()

    def key_sizes(self) -> Mapping[str, int]:
        """The evaluation keys that the server needs: the largest size in bytes by name. Empty if the region needs no session."""
        return {}

    def evaluation_keys(self, secrets: Secrets) -> Mapping[str, bytes]:
        """The evaluation keys by name. Their secrets are taken from `secrets`, or made and added to it for other regions."""
        return {}
