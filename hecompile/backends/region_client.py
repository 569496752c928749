"""The client's half of a region, which may hold secrets. Nothing that a server loads imports this module."""

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
    """What the client keeps between a request and its reply (a fresh key, scale factors). Never leaves, never printed."""

    reply_size: int  # bytes of the reply, known before it comes

    def __repr__(self) -> str:
        return f"{type(self).__name__}(hidden)"


class Secrets(dict[str, object]):
    """The client's secret keys of one session, by names of the backend's own choice. Never leaves, never printed."""

    def __repr__(self) -> str:
        return "Secrets(hidden)"


class RegionClient(ABC):
    """The client's half of a region."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    max_batch: int
    patience_s: float = 60.0  # seconds that an answer may take; the way to a server is given twice that
    has_ranges: bool = False  # whether `excursions` looks at what it gets

    def start_run(self) -> None:  # noqa: B027
        """Forget what was kept of the last sampling run; most regions keep nothing."""

    @abstractmethod
    def encrypt(self, values: Sequence[Array], batch: int, secrets: Secrets | None = None) -> tuple[Sequence[Buffer], Pending]:
        """The request's payload, in pieces, for float32 inputs in the order of `inputs`; their sizes depend on `batch` alone,
        or on what the region reveals. `secrets` are those of the session, for regions that declare keys.
        """

    @abstractmethod
    def decrypt(self, reply: Buffer, pending: Pending) -> list[Array]:
        """The region's float32 outputs. Raises `ProtocolError` if the reply's size or words are not what they must be."""

    def reply_size(self, pending: Pending) -> int:
        """Exact size of the reply to this request."""
        return pending.reply_size

    @abstractmethod
    def request_bytes(self, batch: int) -> int:
        """Size of every payload at this batch; of the largest, where a region reveals."""

    @abstractmethod
    def reply_bytes(self, batch: int) -> int:
        """Size of every reply at this batch; of the largest, where a region reveals."""

    def excursions(self, values: Sequence[Array], outputs: Sequence[Array]) -> tuple[str, ...]:
        """What left the ranges that a call's inputs and outputs have: a sentence each, naming layers and the way out, no value."""
        return ()

    def key_sizes(self) -> Mapping[str, int]:
        """Evaluation keys that the server needs: most bytes by name; none means no session."""
        return {}

    def evaluation_keys(self, secrets: Secrets) -> Mapping[str, bytes]:
        """Those keys, for secrets that are taken from `secrets`, or made and left there for the other regions of the session."""
        return {}
