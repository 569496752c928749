"""What travels in a request: two bytes of header length, a msgpack header, then the backend's payload.

The header's fields and their sizes depend on public data only. A reply is the backend's bytes as they are.
"""

from __future__ import annotations

import struct

import msgpack

from hecompile.errors import ProtocolError

__all__ = ["HEADER_LIMIT", "pack_request", "unpack_request"]

FORMAT = 1
HEADER_LIMIT = 256  # bytes that a header may take, its length included
_FIELDS = {"format": int, "batch": int, "bytes": int}


def pack_request(batch: int, payload: bytes) -> bytes:
    """The body of a request."""
    header: bytes = msgpack.packb({"format": FORMAT, "batch": batch, "bytes": len(payload)})
    return struct.pack("<H", len(header)) + header + payload


def unpack_request(body: bytes) -> tuple[int, bytes]:
    """Batch and payload. Raises `ProtocolError` for anything but a well-formed body."""
    if len(body) < 2:
        raise ProtocolError("the request has no header")
    (size,) = struct.unpack_from("<H", body)
    if size > HEADER_LIMIT - 2 or len(body) < 2 + size:
        raise ProtocolError("the request's header is longer than the request, or than a header may be")
    try:
        header = msgpack.unpackb(body[2 : 2 + size], strict_map_key=True)
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise ProtocolError(f"the request's header is not msgpack: {error}") from error
    if (
        not isinstance(header, dict)
        or set(header) != set(_FIELDS)
        or any(type(header[name]) is not kind for name, kind in _FIELDS.items())
    ):
        raise ProtocolError(f"the request's header must have exactly the fields {', '.join(_FIELDS)}")
    if header["format"] != FORMAT:
        raise ProtocolError(f"wire format {header['format']}, this server speaks format {FORMAT}")
    payload = body[2 + size :]
    if header["bytes"] != len(payload):
        raise ProtocolError(f"the header announces {header['bytes']} bytes, {len(payload)} came")
    if header["batch"] < 1:
        raise ProtocolError(f"batch {header['batch']} is below one")
    return int(header["batch"]), payload
