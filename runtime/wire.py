"""What travels in a request: a header length, a msgpack header, then the backend's payload or the keys of a session.

The header's fields and their sizes depend on public data only. A reply is the backend's bytes as they are. The session is named
inside the body, not in the address: addresses end up in logs, and whoever knows a session's identifier may use its keys.
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
HEADER_LIMIT = 256  # bytes that a header may take, its length included
SESSION_DIGITS = 32  # of a session's identifier, hexadecimal: 128 bits
TAG_HEADER = "Idempotency-Key"  # of HTTP; by its value, `new_tag`, a server finds a request that is sent again
_FIELDS = {"format": int, "batch": int, "bytes": int, "session": str}


def new_tag() -> str:
    """What one request and its repetitions have in common: 128 random bits, hexadecimal, that nothing else ever has."""
    return secrets.token_hex(16)


def pack_request(batch: int, payload: Sequence[Buffer], session: str = "") -> list[Buffer]:
    """The body of a request, its header before the payload's own parts; `session` is empty for regions without keys."""
    header: bytes = msgpack.packb({"format": FORMAT, "batch": batch, "bytes": total_bytes(payload), "session": session})
    return [struct.pack("<H", len(header)) + header, *payload]


def unpack_request(body: bytes | bytearray) -> tuple[int, str, memoryview]:
    """Batch, session and payload, which is a view of the body. Raises `ProtocolError` for anything but a well-formed body."""
    header, start = _header(body, "<H", HEADER_LIMIT)
    if set(header) != set(_FIELDS) or any(type(header[name]) is not kind for name, kind in _FIELDS.items()):
        raise ProtocolError(f"the request's header must have exactly the fields {', '.join(_FIELDS)}")
    _judge_format(header)
    payload = memoryview(body)[start:]
    if header["bytes"] != len(payload):
        raise ProtocolError(f"the header announces {header['bytes']} bytes, {len(payload)} came")
    if header["batch"] < 1:
        raise ProtocolError(f"batch {header['batch']} is below one")
    return int(header["batch"]), str(header["session"]), payload


def key_limit(sizes: Mapping[str, int]) -> int:
    """No well-formed upload of these keys is longer than this."""
    return HEADER_LIMIT + sum(len(name.encode()) + 16 + size for name, size in sizes.items())


def pack_keys(keys: Mapping[str, bytes]) -> list[Buffer]:
    """The body that opens a session, its header first."""
    header: bytes = msgpack.packb({"format": FORMAT, "keys": {name: len(keys[name]) for name in sorted(keys)}})
    return [struct.pack("<I", len(header)) + header, *(keys[name] for name in sorted(keys))]


def unpack_keys(body: bytes | bytearray, sizes: Mapping[str, int]) -> dict[str, memoryview]:
    """The keys by name. Raises `ProtocolError` unless they are exactly those of `sizes`, none longer than there."""
    header, start = _header(body, "<I", key_limit(sizes) - sum(sizes.values()))
    found = header.get("keys")
    if set(header) != {"format", "keys"} or not isinstance(found, dict) or not all(type(name) is str for name in found):
        raise ProtocolError("the header of the keys must have exactly the fields format, keys; keys by names that are text")
    _judge_format(header)
    missing, unknown = sorted(set(sizes) - set(found)), sorted(set(found) - set(sizes))
    if missing or unknown:
        help = "load the artifact of this server and open a new session"
        raise ProtocolError(f"evaluation keys missing {missing[:4]}, unknown {unknown[:4]}: {help}")
    for name, size in found.items():
        if type(size) is not int:  # not printed: it may be nested deeper than `repr` goes
            raise ProtocolError(f"the header of the keys must give the length of '{name}' as an integer")
        if not 0 < size <= sizes[name]:
            raise ProtocolError(f"key '{name}' has {size} bytes, at most {sizes[name]} are declared")
    if len(body) != start + sum(found.values()):
        raise ProtocolError(f"the header announces {sum(found.values())} bytes of keys, {len(body) - start} came")
    keys, view = dict[str, memoryview](), memoryview(body)
    for name, size in found.items():
        keys[name] = view[start : start + size]
        start += size
    return keys


def _header(body: bytes | bytearray, length: str, limit: int) -> tuple[dict[str, Any], int]:
    """The msgpack header in front of a body, and where it ends."""
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


def _judge_format(header: Mapping[str, Any]) -> None:
    if type(header["format"]) is not int:  # not printed: it may be nested deeper than `repr` goes
        raise ProtocolError(f"the header must give the wire format as an integer, this server speaks format {FORMAT}")
    if header["format"] != FORMAT:
        raise ProtocolError(f"wire format {header['format']}, this server speaks format {FORMAT}")
