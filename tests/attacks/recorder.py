"""What reaches a server, byte for byte: a relay on the wire, and its record read as HTTP."""

from __future__ import annotations

import socket
import struct
import threading
from dataclasses import dataclass
from typing import Any

import msgpack

__all__ = ["Recorded", "Relay"]


@dataclass(frozen=True)
class Recorded:
    """One request as it came: its first line, headers in order, and body."""

    connection: int
    line: str
    headers: tuple[str, ...]
    body: bytes

    def field(self) -> tuple[dict[str, Any], bytes]:
        """The msgpack header of the body and what follows it."""
        (size,) = struct.unpack_from("<H" if "/regions/" in self.line else "<I", self.body)
        start = 2 if "/regions/" in self.line else 4
        return msgpack.unpackb(self.body[start : start + size]), self.body[start + size :]


class Relay:
    """Passes connections on to a server and keeps what clients said."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._said: list[bytearray] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            self._said.append(bytearray())
            threading.Thread(target=self._pass, args=(client, server, self._said[-1]), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, None), daemon=True).start()

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket, said: bytearray | None) -> None:
        try:
            while data := source.recv(1 << 16):
                if said is not None:
                    said += data
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            target.close()

    def close(self) -> None:
        self._listener.close()

    def requests(self) -> list[Recorded]:
        """Everything that clients said, connection by connection, as requests."""
        recorded = list[Recorded]()
        for number, said in enumerate(self._said, start=1):
            rest = bytes(said)
            while rest:
                head, _, rest = rest.partition(b"\r\n\r\n")
                line, *headers = head.decode("ascii").split("\r\n")
                lengths = [int(header.split(":")[1]) for header in headers if header.lower().startswith("content-length:")]
                recorded.append(Recorded(number, line, tuple(headers), rest[: sum(lengths)]))
                rest = rest[sum(lengths) :]
        return recorded
