"""Checks serialised evaluation keys before Concrete's parser reads them: they must fit the circuit's own specification.

Concrete 2.10 writes a `ServerKeyset` by Cap'n Proto: a few structures that name each key's secret keys and parameters, and the
keys' words as runs of bytes. Every structure must say here what the specification says. So only the words are a stranger's, and
any words are keys of some secret.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from hecompile.backends.concrete.parameters import PRECISION, Bootstrap, Keyswitch, Numbers
from hecompile.errors import ProtocolError

__all__ = ["check_keys"]

WORD = 8
SEED_BYTES = 16  # of the seed before the words of each key
SEEDED = 1  # Concrete's number for compression by a seed
MOST_SEGMENTS = 512
MOST_RUNS = 16  # of bytes in one key, since Concrete cuts keys of half a gigabyte or more
STRUCT, LIST, FAR = 0, 1, 2  # kinds of Cap'n Proto pointers
BYTES, POINTERS, COMPOSITE = 2, 6, 7  # kinds of Cap'n Proto lists


@dataclass(frozen=True)
class _Place:
    """The place of a word: its segment, and its number within it."""

    segment: int
    word: int

    def __add__(self, words: int) -> _Place:
        return _Place(self.segment, self.word + words)


class _Message:
    """A message of Cap'n Proto that is read word by word. Its methods raise `ValueError` for a place out of bounds."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        (count,) = struct.unpack_from("<I", data)
        if count >= MOST_SEGMENTS:
            raise ValueError(f"{count + 1} segments")
        start, self._segments = (4 * (count + 2) + 7) // WORD, list[tuple[int, int]]()
        for size in struct.unpack_from(f"<{count + 1}I", data, 4):
            self._segments.append((start, size))
            start += size
        if start * WORD != len(data):
            raise ValueError("its segments are shorter or longer than the message")

    def word(self, place: _Place) -> int:
        """The word of 64 bits at a place."""
        start, _ = self._segments[self._within(place, 1).segment]
        return int.from_bytes(self._data[(start + place.word) * WORD : (start + place.word + 1) * WORD], "little")

    def _within(self, place: _Place, words: int) -> _Place:
        """The place itself, if this many words begin there within its segment."""
        if not place.segment < len(self._segments) or not 0 <= place.word <= self._segments[place.segment][1] - words:
            raise ValueError("a pointer out of bounds")
        return place

    def _target(self, pointer: _Place) -> tuple[_Place, int, int]:
        """The place that a pointer leads to, the pointer's kind, and its upper 32 bits."""
        value = self.word(pointer)
        if value & 7 == FAR:
            pointer = _Place(value >> 32, (value & 0xFFFFFFFF) >> 3)
            value = self.word(pointer)
        offset = (value & 0xFFFFFFFF) >> 2
        return pointer + (1 + offset - (offset >> 29 << 30)), value & 3, value >> 32

    def structure(self, pointer: _Place, data: int, pointers: int) -> _Place:
        """The start of the structure behind a pointer, which must have exactly these numbers of words of data and of pointers."""
        place, kind, sizes = self._target(pointer)
        if kind != STRUCT or sizes != data | pointers << 16:
            raise ValueError("a structure of another size")
        return self._within(place, data + pointers)

    def elements(self, pointer: _Place, count: int, pointers: int) -> list[_Place]:
        """The starts of the structures of a list, which must be `count` ones that hold only this many pointers each."""
        place, kind, size = self._target(pointer)
        if kind != LIST or size != COMPOSITE | count * pointers << 3 or self.word(place) != count << 2 | pointers << 48:
            raise ValueError("a list of another length")
        self._within(place, 1 + count * pointers)
        return [place + (1 + number * pointers) for number in range(count)]

    def runs(self, pointer: _Place) -> list[int]:
        """The lengths in bytes of the runs that a list holds."""
        place, kind, size = self._target(pointer)
        if kind != LIST or size & 7 != POINTERS or not 1 <= size >> 3 <= MOST_RUNS:
            raise ValueError("words in too many pieces")
        return [self._run(place + number) for number in range(size >> 3)]

    def _run(self, pointer: _Place) -> int:
        """The length in bytes of the run behind a pointer."""
        place, kind, size = self._target(pointer)
        length = size >> 3
        if kind != LIST or size & 7 != BYTES or length % WORD:
            raise ValueError("its words are not a list of bytes with 8 for each word")
        self._within(place, length // WORD)
        return length


def _pair(low: int, high: int = 0) -> int:
    """The word of two numbers of 32 bits."""
    return low | high << 32


def _parameters(key: Bootstrap | Keyswitch) -> list[int]:
    """The words in which Concrete writes a key's parameters."""
    (noise,) = struct.unpack("<Q", struct.pack("<d", key.variance))
    head, precision = _pair(key.levels, key.base), _pair(PRECISION)  # and 0 for binary secrets
    if isinstance(key, Bootstrap):
        return [head, _pair(key.glwe_dimension, key.polynomial_size), noise, precision, _pair(key.source_dimension)]
    return [head, noise, precision, _pair(key.source_dimension, key.dimension)]


def _check_words(message: _Message, place: _Place, expected: Sequence[int]) -> None:
    """Raise `ValueError` unless the message has the expected words at a place."""
    if any(message.word(place + number) != word for number, word in enumerate(expected)):
        raise ValueError("parameters of another circuit")


def _check_key(message: _Message, place: _Place, number: int, key: Bootstrap | Keyswitch) -> None:
    """Raise `ValueError` unless the structure at a place is this key: a pointer to its description and one to its words."""
    info, expected = message.structure(place, 2, 1), _parameters(key)
    _check_words(message, info, [_pair(number, key.source), _pair(key.target, SEEDED)])
    parameters = message.structure(info + 2, len(expected), 1)
    _check_words(message, parameters, expected)
    modulus = message.structure(parameters + len(expected), 1, 1)
    _check_words(message, modulus, [0])  # the native modulus 2^64
    message.structure(modulus + 1, 0, 0)
    length = sum(message.runs(message.structure(place + 1, 0, 1)))
    if length != key.size + SEED_BYTES:
        raise ValueError(f"a key of {length} bytes")


def check_keys(name: str, data: memoryview, numbers: Numbers) -> None:
    """Raise `ProtocolError` naming the key `name` unless the data are serialised evaluation keys of this specification."""
    try:
        message = _Message(data)
        root = message.structure(_Place(0, 0), 0, 3)
        kinds: tuple[Sequence[Bootstrap | Keyswitch], ...] = (numbers.bootstraps, numbers.keyswitches, ())  # no packing keys
        for place, kind in enumerate(kinds):
            for number, element in enumerate(message.elements(root + place, len(kind), 2)):
                _check_key(message, element, number, kind[number])
    except (ValueError, struct.error) as error:
        raise ProtocolError(f"key '{name}' holds no evaluation keys of this circuit: {error}") from error
