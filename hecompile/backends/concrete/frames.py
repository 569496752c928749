"""Frames: the fixed bytes that Concrete writes before and after the words of a serialised ciphertext.

These bytes depend only on the kind of encrypted tensor. Both sides build them from numbers that they checked, and only words are
sent. So Concrete's parser never reads another byte of a stranger, and every message has a known size.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hecompile.backends.concrete.parameters import PRECISION, EncryptedTensor
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError

__all__ = ["Frame", "cut", "frame_of"]


@dataclass(frozen=True)
class Frame:
    """The bytes before and after the words (hexadecimal), and how many bytes of words lie between them.

    Raises:
        ProtocolError: when built from text that is not hexadecimal, or without words.
    """

    head: str
    size: int
    tail: str

    def __post_init__(self) -> None:
        if self.size < 1 or not all(set(text) <= set("0123456789abcdef") and not len(text) % 2 for text in (self.head, self.tail)):
            raise ProtocolError("frame: it is not hexadecimal, or holds no words")

    def wrap(self, words: bytes | memoryview) -> bytes:
        """Put the frame around words, which gives a serialised ciphertext. Raises `ProtocolError` for another number of bytes."""
        if len(words) != self.size:
            raise ProtocolError(f"{len(words)} bytes came, but a ciphertext has {self.size} bytes")
        return b"".join((bytes.fromhex(self.head), words, bytes.fromhex(self.tail)))

    def unwrap(self, ciphertext: bytes) -> memoryview:
        """The words of a serialised ciphertext. Raises `ProtocolError` if it begins or ends with other bytes."""
        head, tail = bytes.fromhex(self.head), bytes.fromhex(self.tail)
        if len(ciphertext) != len(head) + self.size + len(tail) or not ciphertext.startswith(head) or not ciphertext.endswith(tail):
            raise ProtocolError(
                "this version of Concrete serialises ciphertexts in another way than the artifact says: compile it again here"
            )
        return memoryview(ciphertext)[len(head) : len(ciphertext) - len(tail)]


def _pair(low: int, high: int) -> bytes:
    """The bytes of two 32-bit numbers."""
    return struct.pack("<II", low, high)


def _struct(offset: int, data: int, pointers: int) -> bytes:
    """A pointer to a structure `offset` words after the pointer's end, with this many words of data and of pointers."""
    return struct.pack("<iHH", offset * 4, data, pointers)


def _shape(sizes: tuple[int, ...]) -> bytes:
    """A structure whose only field is a list of 32-bit numbers, followed by the list."""
    return _pair(1, len(sizes) << 3 | 4) + struct.pack(f"<{len(sizes)}I", *sizes).ljust(-(-len(sizes) // 2) * 8, b"\0")


def frame_of(tensor: EncryptedTensor) -> Frame:
    """The frame of an encrypted tensor, as Concrete 2.10 writes it.

    The message has two segments of Cap'n Proto: the second holds the encoding and the first all else. The first begins with
    pointers to the payload (a list of one run of bytes, the words), to the raw description (shape of the words) and to that of
    the type (shapes and noise).
    """
    shape, stored, words = _shape(tensor.shape), _shape(tensor.stored), tensor.words
    raw = _pair(PRECISION, 0) + _struct(0, 0, 1) + stored
    encryption = (
        struct.pack("<IId", tensor.key, tensor.dimension, tensor.variance) + _struct(0, 1, 1) + _pair(0, 0) + _struct(-1, 0, 0)
    )
    far = _pair(2, 1)  # points to the start of the second segment
    description = (
        _pair(PRECISION, int(tensor.seeded)) + _struct(3, 0, 1) + _struct(2 + len(shape) // 8, 0, 1)
        + _struct(1 + (len(shape) + len(stored)) // 8, 2, 1) + far + shape + stored + encryption
    )  # fmt: skip
    tail = raw + _pair(0, 0) + _struct(0, 1, 4) + description
    encoding = _struct(0, 1, 1) + _pair(tensor.width, int(tensor.signed)) + _struct(-1, 0, 0)
    head = (
        _struct(0, 0, 3) + _struct(2, 0, 1) + _struct(words + 3, 1, 1) + _struct(words + 2 + len(raw) // 8, 1, 1)
        + _pair(1, 1 << 3 | 6) + _pair(1, 8 * words << 3 | 2)
    )  # fmt: skip
    segments = struct.pack("<IIII", 1, (len(head) + len(tail)) // 8 + words, len(encoding) // 8, 0)
    return Frame((segments + head).hex(), 8 * words, (tail + encoding).hex())


def cut(data: Buffer, sizes: list[int]) -> list[memoryview]:
    """Cut data into consecutive pieces of these sizes, without copying. Raises `ProtocolError` unless they are all of the data."""
    if len(data) != sum(sizes):
        raise ProtocolError(f"{len(data)} bytes came, expected {sum(sizes)}")
    pieces, start, view = list[memoryview](), 0, memoryview(data)
    for size in sizes:
        pieces.append(view[start : start + size])
        start += size
    return pieces
