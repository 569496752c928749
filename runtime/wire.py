"""The bytes of a request: the length of a header, the header in msgpack, then the backend's payload or the keys of a session.

The header's fields and sizes depend on public data only. A reply is the backend's bytes without a header. The session is named in
the body, not in the URL: URLs end up in logs, and whoever knows a session's identifier can use its keys.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack

from hecompile.buffers import Buffer, total_bytes
from hecompile.errors import ProtocolError

__all__ = [
    "FORMAT",
    "HEADER_LIMIT",
    "SESSION_DIGITS",
    "TAG_HEADER",
    "key_limit",
    "new_tag",
    "pack_keys",
    "pack_request",
    "unpack_keys",
    "unpack_request",
]

FORMAT = 4
HEADER_LIMIT = 256  # largest size of a header in bytes, its length field included
SESSION_DIGITS = 32  # hexadecimal digits of a session's identifier: 128 bits
TAG_HEADER = "Idempotency-Key"  # HTTP header with the value of `new_tag`, by which a server recognises a request that is sent again
_FIELDS = {"format": int, "batch": int, "bytes": int, "session": str}


def new_tag() -> str:
    """Return 128 random bits in hexadecimal, which mark a request and its repetitions."""
    return secrets.token_hex(16)


def pack_request(batch: int, payload: Sequence[Buffer], session: str = "") -> list[Buffer]:
    """Return the body of a request as buffers: the header, then the payload's parts. `session` is empty for regions without
    keys."""
    header: bytes = msgpack.packb({"format": FORMAT, "batch": batch, "bytes": total_bytes(payload), "session": session})
    return [struct.pack("<H", len(header)) + header, *payload]


def unpack_request(body: bytes | bytearray) -> tuple[int, str, memoryview]:
    """Return batch, session and payload; the payload is a view of the body. Raises `ProtocolError` for a malformed body."""
    header, start = _header(body, "<H", HEADER_LIMIT)
    if set(header) != set(_FIELDS) or any(type(header[name]) is not kind for name, kind in _FIELDS.items()):
        raise ProtocolError(f"the request's header must have exactly the fields {', '.join(_FIELDS)}")
    _check_format(header)
    payload = memoryview(body)[start:]
    if header["bytes"] != len(payload):
        raise ProtocolError(f"the header announces {header['bytes']} bytes, {len(payload)} came")
    if header["batch"] < 1:
        raise ProtocolError(f"batch {header['batch']} is below one")
    return int(header["batch"]), str(header["session"]), payload


def key_limit(sizes: Mapping[str, int]) -> int:
    """Return the largest number of bytes of a well-formed upload of keys of these sizes."""
    return HEADER_LIMIT + sum(len(name.encode()) + 16 + size for name, size in sizes.items())


def pack_keys(keys: Mapping[str, bytes]) -> list[Buffer]:
    """Return the body that opens a session as buffers: the header, then the keys sorted by name."""
    header: bytes = msgpack.packb({"format": FORMAT, "keys": {name: len(keys[name]) for name in sorted(keys)}})
    return [struct.pack("<I", len(header)) + header, *(keys[name] for name in sorted(keys))]


def unpack_keys(body: bytes | bytearray, sizes: Mapping[str, int]) -> dict[str, memoryview]:
    """Return the keys by name. Raises `ProtocolError` unless they are exactly those of `sizes`, and none is larger than stated
    there."""
    header, start = _header(body, "<I", key_limit(sizes) - sum(sizes.values()))
    announced = header.get("keys")
    if set(header) != {"format", "keys"} or not isinstance(announced, dict) or not all(type(name) is str for name in announced):
        raise ProtocolError("the header of the keys must have exactly the fields format, keys; keys by names that are text")
    _check_format(header)
    missing, unknown = sorted(set(sizes) - set(announced)), sorted(set(announced) - set(sizes))
    if missing or unknown:
        help = "load the artifact of this server and open a new session"
        raise ProtocolError(f"evaluation keys missing {missing[:4]}, unknown {unknown[:4]}: {help}")
    for name, size in announced.items():
        if type(size) is not int:  # not printed: printing deeply nested values may fail
            raise ProtocolError(f"the header of the keys must give the length of '{name}' as an integer")
        if not 0 < size <= sizes[name]:
            raise ProtocolError(f"key '{name}' has {size} bytes, at most {sizes[name]} are declared")
    if len(body) != start + sum(announced.values()):
        raise ProtocolError(f"the header announces {sum(announced.values())} bytes of keys, {len(body) - start} came")
    keys, view = dict[str, memoryview](), memoryview(body)
    for name, size in announced.items():
        keys[name] = view[start : start + size]
        start += size
    return keys


def _header(body: bytes | bytearray, length: str, limit: int) -> tuple[dict[str, Any], int]:
    """Return the msgpack header in front of a body, and the offset of what follows it."""
    first = struct.calcsize(length)
    if len(body) < first:
        raise ProtocolError("the request has no header")
    (size,) = struct.unpack_from(length, body)
    if size > limit - first or len(body) < first + size:
        raise ProtocolError("the request's header is longer than the request, or than a header may be")
    try:
        header = msgpack.unpackb(body[first : first + size], strict_map_key=True)
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise ProtocolError(f"the request's header is not msgpack: {error}") from error
    if not isinstance(header, dict):
        raise ProtocolError("the request's header must be a map of fields")
    return header, first + size


def _check_format(header: Mapping[str, Any]) -> None:
    """Raise `ProtocolError` unless the header names our wire format."""
    if type(header["format"]) is not int:  # not printed: printing deeply nested values may fail
        raise ProtocolError(f"the header must give the wire format as an integer, this server speaks format {FORMAT}")
    if header["format"] != FORMAT:
        raise ProtocolError(f"wire format {header['format']}, this server speaks format {FORMAT}")
