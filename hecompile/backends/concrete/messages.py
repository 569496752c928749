"""Messages between a server and its workers, on pipes: eight bytes of length, then msgpack."""

from __future__ import annotations

import struct
from typing import IO, Any

import msgpack

__all__ = ["read_message", "write_message"]

LARGEST = 1 << 33  # bytes of a message


def write_message(stream: IO[bytes], message: dict[str, Any]) -> None:
    """Write a message and flush the stream."""
    data = msgpack.packb(message)
    stream.write(struct.pack("<Q", len(data)))
    stream.write(data)
    stream.flush()


def read_message(stream: IO[bytes]) -> dict[str, Any] | None:
    """Read the next message. Returns None at the end of the stream, or for bytes that are not a message."""
    header = stream.read(8)
    if len(header) < 8:
        return None
    (size,) = struct.unpack("<Q", header)
    data = stream.read(size) if size <= LARGEST else b""
    if len(data) < size:
        return None
    try:
        message = msgpack.unpackb(data, max_bin_len=LARGEST)
    except (ValueError, msgpack.exceptions.UnpackException):
        return None
    return message if isinstance(message, dict) else None
