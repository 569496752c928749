"""A ciphertext of Concrete as it is serialised: fixed bytes, the words, fixed bytes.

What stands around the words depends on the circuit's gate alone. Both sides build it from the numbers that they judged, and only
words travel: no parser of Concrete ever sees another byte of a stranger, and every message has its one size.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hecompile.backends.concrete.parameters import PRECISION, Gate
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError

__all__ = ["Frame", "cut", "frame_of"]


@dataclass(frozen=True)
class Frame:
    """Bytes before and after (hexadecimal), and how many bytes of words lie between."""

    head: str
    size: int
    tail: str

    def __post_init__(self) -> None:
        if self.size < 1 or not all(set(text) <= set("0123456789abcdef") and not len(text) % 2 for text in (self.head, self.tail)):
            raise ProtocolError("frame: not hexadecimal, or no words")

    def wrap(self, words: bytes | memoryview) -> bytes:
        """The serialised ciphertext."""
        if len(words) != self.size:
            raise ProtocolError(f"a ciphertext has {self.size} bytes, {len(words)} came")
        return b"".join((bytes.fromhex(self.head), words, bytes.fromhex(self.tail)))

    def unwrap(self, ciphertext: bytes) -> memoryview:
        """The words of a serialised ciphertext. Raises `ProtocolError` if it is framed otherwise."""
        head, tail = bytes.fromhex(self.head), bytes.fromhex(self.tail)
        if len(ciphertext) != len(head) + self.size + len(tail) or not ciphertext.startswith(head) or not ciphertext.endswith(tail):
            raise ProtocolError("this Concrete serialises a ciphertext otherwise than the artifact says: compile it again here")
        return memoryview(ciphertext)[len(head) : len(ciphertext) - len(tail)]


def _pair(low: int, high: int) -> bytes:
    return struct.pack("<II", low, high)


def _struct(offset: int, data: int, pointers: int) -> bytes:
    """A pointer to a structure so many words behind the next one, with so many words of data and pointers."""
    return struct.pack("<iHH", offset * 4, data, pointers)


def _shape(sizes: tuple[int, ...]) -> bytes:
    """A structure whose only field is a list of numbers of 32 bits, which follows."""
    return _pair(1, len(sizes) << 3 | 4) + struct.pack(f"<{len(sizes)}I", *sizes).ljust(-(-len(sizes) // 2) * 8, b"\0")


def frame_of(gate: Gate) -> Frame:
    """The frame of a gate's ciphertexts, as Concrete 2.10 writes it.

    The message has two segments of Cap'n Proto: everything but the encoding, and the encoding. The first begins with pointers to
    the payload (a list of one run of bytes: the words), the raw description (shape of the words) and the type's (shapes, noise).
    """
    shape, stored, words = _shape(gate.shape), _shape(gate.stored), gate.words
    raw = _pair(PRECISION, 0) + _struct(0, 0, 1) + stored
    encryption = struct.pack("<IId", gate.key, gate.dimension, gate.variance) + _struct(0, 1, 1) + _pair(0, 0) + _struct(-1, 0, 0)
    far = _pair(2, 1)  # a pointer to the start of the second segment
    description = (
        _pair(PRECISION, int(gate.seeded)) + _struct(3, 0, 1) + _struct(2 + len(shape) // 8, 0, 1)
        + _struct(1 + (len(shape) + len(stored)) // 8, 2, 1) + far + shape + stored + encryption
    )  # fmt: skip
    tail = raw + _pair(0, 0) + _struct(0, 1, 4) + description
    encoding = _struct(0, 1, 1) + _pair(gate.width, int(gate.signed)) + _struct(-1, 0, 0)
    head = (
        _struct(0, 0, 3) + _struct(2, 0, 1) + _struct(words + 3, 1, 1) + _struct(words + 2 + len(raw) // 8, 1, 1)
        + _pair(1, 1 << 3 | 6) + _pair(1, 8 * words << 3 | 2)
    )  # fmt: skip
    segments = struct.pack("<IIII", 1, (len(head) + len(tail)) // 8 + words, len(encoding) // 8, 0)
    return Frame((segments + head).hex(), 8 * words, (tail + encoding).hex())


def cut(data: Buffer, sizes: list[int]) -> list[memoryview]:
    """Consecutive pieces. Raises `ProtocolError` if they are not all there is."""
    if len(data) != sum(sizes):
        raise ProtocolError(f"{len(data)} bytes came, expected {sum(sizes)}")
    pieces, start, view = list[memoryview](), 0, memoryview(data)
    for size in sizes:
        pieces.append(view[start : start + size])
        start += size
    return pieces
