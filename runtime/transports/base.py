"""What every transport does, and the one that needs no network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.runtime.greeting import Greeting

if TYPE_CHECKING:
    from hecompile.runtime.service import Service

__all__ = ["LocalTransport", "ServerGoneError", "Transport"]


class ServerGoneError(ProtocolError):
    """The server did not answer, also not after retries."""


class Transport(ABC):
    """A way to a server. A request is a sequence of buffers, which are sent in order and never joined."""

    @abstractmethod
    def send(self, digest: str, region: str, body: Sequence[Buffer], reply: Buffer) -> None:
        """Send a request and fill `reply`, which is writable and exactly as long as the answer must be.

        Raises:
            ProtocolError: if the request is refused, or the answer is of another length.
            ServerGoneError: if there is no answer.
        """

    @abstractmethod
    def open_session(self, digest: str, body: Sequence[Buffer]) -> str:
        """Leave evaluation keys at the server; the identifier of their session. Raises as `send` does."""

    @abstractmethod
    def close_session(self, digest: str, identifier: str) -> None:
        """Ask the server to forget them. Raises as `send` does."""

    def greet(self, digest: str) -> Greeting | None:
        """What the server says of itself, asked for when a client is loaded; None from a transport that cannot ask."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Give up connections. May be called twice."""

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class LocalTransport(Transport):
    """The server's code in the same process, for tests and first steps."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def send(self, digest: str, region: str, body: Sequence[Buffer], reply: Buffer) -> None:
        answer, target = self._service.answer(digest, region, b"".join(body)), memoryview(reply).cast("B")
        if len(answer) != len(target):
            raise ProtocolError(f"region '{region}': a reply of {len(answer)} bytes, expected {len(target)}")
        target[:] = answer

    def open_session(self, digest: str, body: Sequence[Buffer]) -> str:
        return self._service.open_session(digest, b"".join(body))

    def close_session(self, digest: str, identifier: str) -> None:
        self._service.close_session(digest, identifier)

    def greet(self, digest: str) -> Greeting | None:
        return self._service.greeting

    def close(self) -> None:
        return None
