"""Reads tensors from the safetensors files of an artifact. The header is checked before any tensor is made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array
from hecompile.untrusted import parse_json

__all__ = ["mapped_tensors", "tensors_of"]

_HEADER_BYTES = 1 << 22  # names, types and sizes
_MOST_AXES = 8
_TYPES: Mapping[str, type[np.generic]] = {  # of weights at a server
    "I8": np.int8, "U8": np.uint8, "I32": np.int32, "I64": np.int64, "F32": np.float32, "F64": np.float64,
}  # fmt: skip


def tensors_of(data: bytes, what: str) -> dict[str, Array]:
    """Return the arrays of a safetensors file by name, as copies. Raises `ProtocolError`, which names `what`, for a malformed
    file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    _header(data, what)
    try:
        arrays: dict[str, Array] = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise ProtocolError(f"{what}: {str(error)[:200]}") from error
    return arrays


def mapped_tensors(data: Buffer, what: str) -> dict[str, Array]:
    """Return the arrays of a safetensors file by name, as read-only views of its bytes.

    Raises:
        ProtocolError: which names `what`, if a tensor has an unknown type or no shape, or if the tensors' bytes overlap, leave a
            gap or do not end with the file.
    """
    header, start = _header(data, what)
    header.pop("__metadata__", None)
    try:
        entries = sorted((_entry(name, value, what) for name, value in header.items()), key=lambda entry: entry[3])
    except TypeError as error:
        raise ProtocolError(f"{what}: {str(error)[:200]}") from error
    arrays, end, room = dict[str, Array](), 0, memoryview(data)[start:]
    for name, kind, shape, first, last in entries:
        if first != end or last - first != math.prod(shape) * np.dtype(kind).itemsize or last > len(room):
            raise ProtocolError(f"{what}: tensor '{name[:60]}' of shape {shape} has a wrong position or number of bytes")
        arrays[name], end = np.frombuffer(room[first:last], kind).reshape(shape), last
    if end != len(room):
        raise ProtocolError(f"{what}: {len(room) - end} bytes that belong to no tensor")
    return arrays


def _header(data: Buffer, what: str) -> tuple[dict[str, Any], int]:
    """Return the header in front of the tensors, and the position at which it ends."""
    view = memoryview(data)
    size = int.from_bytes(view[:8], "little")
    if not 2 <= size <= min(_HEADER_BYTES, len(view) - 8):
        raise ProtocolError(f"{what}: its header has {size} bytes, which is not possible")
    header = parse_json(bytes(view[8 : 8 + size]), what)
    if not isinstance(header, dict):
        raise ProtocolError(f"{what}: its header is not a map of tensors")
    return header, 8 + size


def _entry(name: str, value: Any, what: str) -> tuple[str, type[np.generic], tuple[int, ...], int, int]:
    """Return a tensor's name, type and shape, and the positions at which its bytes begin and end."""
    if isinstance(value, dict) and set(value) == {"dtype", "shape", "data_offsets"}:
        kind, shape, offsets = _TYPES.get(str(value["dtype"])), value["shape"], value["data_offsets"]
        numbers = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) else [None]
        whole = all(type(number) is int and 0 <= number < 1 << 40 for number in numbers)
        if kind is not None and whole and len(shape) <= _MOST_AXES and len(offsets) == 2:
            return name, kind, tuple(shape), offsets[0], offsets[1]
    raise ProtocolError(f"{what}: tensor '{name[:60]}' has a type, shape or position that is not supported")
