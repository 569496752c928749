"""Scans the bytes of an ONNX file before anything parses them: only fields that the compiler writes, and not too many.

A parsed field of two bytes can take a hundred bytes of memory, so fields are counted first. An unknown field (external data,
functions, subgraphs, training, metadata) is refused, since ONNX Runtime may act on it.
"""

from __future__ import annotations

from collections.abc import Mapping

from hecompile.errors import ProtocolError

__all__ = ["scan_model"]

MOST_FIELDS = 2_000_000
LONGEST = 1000  # bytes of a name
_VARINT, _FIXED32, _BYTES = 0, 5, 2
Kind = int | str  # a protobuf wire type, "text", or the name of a message in `_MESSAGES`

_MESSAGES: Mapping[str, Mapping[int, Kind]] = {
    "model": {1: _VARINT, 2: "text", 7: "graph", 8: "opset"},
    "opset": {1: "text", 2: _VARINT},
    "graph": {1: "node", 2: "text", 5: "tensor", 11: "value", 12: "value"},
    "node": {1: "text", 2: "text", 3: "text", 4: "text", 5: "attribute", 7: "text"},
    "attribute": {1: "text", 2: _FIXED32, 3: _VARINT, 4: _BYTES, 8: _VARINT, 20: _VARINT},
    "tensor": {1: _VARINT, 2: _VARINT, 8: "text", 9: _BYTES},
    "value": {1: "text", 2: "type"},
    "type": {1: "tensor type"},
    "tensor type": {1: _VARINT, 2: "shape"},
    "shape": {1: "dimension"},
    "dimension": {1: _VARINT, 2: "text"},
}


def scan_model(data: bytes) -> None:
    """Raise `ProtocolError` unless the bytes are an ONNX model of known fields only."""
    _Scan(memoryview(data)).message("model", 0, len(data))


class _Scan:
    """One scan: the bytes, and the number of fields read so far."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._fields = data, 0

    def message(self, name: str, start: int, stop: int) -> None:
        """Check the fields of one message between two offsets. The recursion ends because `_MESSAGES` has no cycles."""
        known = _MESSAGES[name]
        while start < stop:
            self._fields += 1
            if self._fields > MOST_FIELDS:
                raise ProtocolError(f"ONNX: more than {MOST_FIELDS} fields")
            key, start = self._varint(start, stop)
            number, wire = key >> 3, key & 7
            kind = known.get(number)
            if kind is None or wire != (kind if isinstance(kind, int) else _BYTES):
                raise ProtocolError(f"ONNX: field {number} of a {name}, which the compiler does not write")
            if wire == _VARINT:
                start = self._varint(start, stop)[1]
            elif wire == _FIXED32:
                start += 4
            else:
                size, start = self._varint(start, stop)
                if size > stop - start:
                    raise ProtocolError(f"ONNX: a {name} ends within a field")
                if kind == "text":
                    self._check_text(start, start + size)
                elif isinstance(kind, str):
                    self.message(kind, start, start + size)
                start += size
        if start != stop:
            raise ProtocolError(f"ONNX: a {name} ends within a field")

    def _check_text(self, start: int, stop: int) -> None:
        """Refuse a name that is too long or not ASCII."""
        if stop - start > LONGEST or not self._data[start:stop].tobytes().isascii():
            raise ProtocolError("ONNX: a name is too long, or not ASCII")

    def _varint(self, start: int, stop: int) -> tuple[int, int]:
        """Return the integer that starts at `start`, stored with seven bits per byte, and the offset after it."""
        value = 0
        for place in range(start, min(stop, start + 10)):
            byte = self._data[place]
            value |= (byte & 0x7F) << (7 * (place - start))
            if byte < 0x80:
                return value, place + 1
        raise ProtocolError("ONNX: an integer that does not end")
