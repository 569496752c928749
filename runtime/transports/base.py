"""The interface of all transports, and the transport within one process, which needs no network."""

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
    """Raised if the server did not answer, even after retries."""


class Transport(ABC):
    """A way to send requests to a server. A request is a sequence of buffers that are sent in order, without being joined."""

    @abstractmethod
    def send(self, digest: str, region: str, body: Sequence[Buffer], reply: Buffer) -> None:
        """Send a request and write its reply into `reply`, which is writable and exactly as long as the reply must be.

        Raises:
            ProtocolError: if the request is refused, or the reply has another length.
            ServerGoneError: if there is no reply.
        """

    @abstractmethod
    def open_session(self, digest: str, body: Sequence[Buffer]) -> str:
        """Leave evaluation keys at the server and return the identifier of their session. Raises as `send` does."""

    @abstractmethod
    def close_session(self, digest: str, identifier: str) -> None:
        """Ask the server to forget the keys of a session. Raises as `send` does."""

    def greet(self, digest: str) -> Greeting | None:
        """Ask the server for its greeting, when a client is loaded. A transport that cannot ask returns None."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Close all connections. It may be called twice."""

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class LocalTransport(Transport):
    """Runs the server's code in this process, for tests and first steps."""

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
