"""How a request's bytes reach a server: within the process, or over HTTP. The bytes are the same."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.runtime.wire import SESSION_DIGITS

if TYPE_CHECKING:
    from hecompile.runtime.service import Service

__all__ = ["HttpTransport", "LocalTransport", "ServerGoneError", "Transport"]


class ServerGoneError(ProtocolError):
    """The server did not answer, also not after retries."""


class Transport(ABC):
    """A way to a server."""

    @abstractmethod
    def send(self, digest: str, region: str, body: Sequence[Buffer], reply: Buffer) -> None:
        """Send a request, its parts in order, and fill `reply`, writable and as long as the answer must be.

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
        _fill(reply, self._service.answer(digest, region, b"".join(body)))

    def open_session(self, digest: str, body: Sequence[Buffer]) -> str:
        return self._service.open_session(digest, b"".join(body))

    def close_session(self, digest: str, identifier: str) -> None:
        self._service.close_session(digest, identifier)

    def close(self) -> None:
        return None


class HttpTransport(Transport):
    """HTTP with keep-alive. Retries send the same bytes again: a second encryption would be new traffic."""

    def __init__(self, url: str, timeout_s: float = 60.0, retries: int = 4, pause_s: float = 0.2) -> None:
        try:
            import httpx
        except ImportError as error:
            from hecompile.errors import MissingExtraError

            raise MissingExtraError("talking to a server", "client") from error
        self._httpx = httpx
        self._retries, self._pause_s = retries, pause_s
        self._client = httpx.Client(base_url=url, timeout=httpx.Timeout(timeout_s, connect=5.0), trust_env=False)
        self.url = url

    def send(self, digest: str, region: str, body: Sequence[Buffer], reply: Buffer) -> None:
        _fill(reply, self._request("POST", f"/v1/artifacts/{digest}/regions/{region}", b"".join(body), f"region '{region}'"))

    def open_session(self, digest: str, body: Sequence[Buffer]) -> str:
        reply = self._request("POST", f"/v1/artifacts/{digest}/sessions", b"".join(body), "the evaluation keys")
        identifier = reply.decode("ascii", "replace")
        if len(identifier) != SESSION_DIGITS or not identifier.isalnum():
            raise ProtocolError(f"{self.url} answers with {len(identifier)} characters that name no session")
        return identifier

    def close_session(self, digest: str, identifier: str) -> None:
        self._request("DELETE", f"/v1/artifacts/{digest}/sessions/{identifier}", b"", "to close a session")

    def _request(self, method: str, path: str, body: bytes, what: str) -> bytes:
        """The answer to a request, tried again while the server is busy or away."""
        reason = ""
        for attempt in range(self._retries + 1):
            if attempt:
                time.sleep(self._pause_s * 2 ** (attempt - 1))
            try:
                response = self._client.request(method, path, content=body)
            except (self._httpx.TransportError, self._httpx.InvalidURL) as error:
                reason = f"{type(error).__name__}: {error}"
                continue
            if response.status_code == 200:
                return response.content
            reason = f"{response.status_code}: {_reason(response.text)}"
            if response.status_code not in (408, 502, 503, 504):
                raise ProtocolError(f"{self.url} refuses {what}: {reason}", status=response.status_code)
        raise ServerGoneError(f"{self.url} does not answer, after {self._retries + 1} attempts: {reason}", status=503)

    def close(self) -> None:
        self._client.close()


def _fill(reply: Buffer, answer: bytes) -> None:
    """The answer into the caller's buffer. Raises `ProtocolError` unless it is exactly as long."""
    target = memoryview(reply).cast("B")
    if len(answer) != len(target):
        raise ProtocolError(f"a reply of {len(answer)} bytes, expected {len(target)}")
    target[:] = answer


def _reason(text: str) -> str:
    """The server's reason, short and printable."""
    import json

    try:
        document = json.loads(text)
        text = str(document["error"])
    except (ValueError, KeyError, TypeError):
        pass
    return "".join(char for char in text[:200] if char.isprintable())
