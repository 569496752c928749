"""A ciphertext of Concrete as it is serialised: fixed bytes, the words, fixed bytes.

What stands around the words depends on the circuit alone, so it is kept in the artifact and only words travel: no parser of
Concrete ever sees a byte that came over the wire outside of them, and every message has its one size.
"""

from __future__ import annotations

from dataclasses import dataclass

from hecompile.errors import InternalError, ProtocolError

__all__ = ["Frame", "frame_of"]


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
        """The words of a serialised ciphertext. Raises `InternalError` if it is framed otherwise."""
        head, tail = bytes.fromhex(self.head), bytes.fromhex(self.tail)
        if len(ciphertext) != len(head) + self.size + len(tail) or not ciphertext.startswith(head) or not ciphertext.endswith(tail):
            raise InternalError("a ciphertext is serialised otherwise than its circuit's first one")
        return memoryview(ciphertext)[len(head) : len(ciphertext) - len(tail)]


def frame_of(ciphertext: bytes, size: int) -> Frame:
    """The frame of a serialised ciphertext with `size` bytes of words.

    The message is one segment of Cap'n Proto: eight bytes, whose second half counts the segment's words of eight bytes, then a
    pointer structure, the data, and the type's description. Data starts 64 bytes in, after the payload's list of chunks.
    """
    start = 64
    if len(ciphertext) < start + size:
        raise InternalError(f"a ciphertext of {len(ciphertext)} bytes cannot hold {size} bytes of words")
    return Frame(ciphertext[:start].hex(), size, ciphertext[start + size :].hex())
