"""Serialised evaluation keys, judged before any parser of Concrete sees them: they must be of the circuit's own specification.

Concrete 2.10 writes a `ServerKeyset` by Cap'n Proto: a few structures that say of each key whose it is and what parameters it has,
and runs of bytes. Here every structure must say what the specification says, so that only the words are a stranger's, and all words
are keys of some secret.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from hecompile.backends.concrete.parameters import PRECISION, Bootstrap, Keyswitch, Numbers
from hecompile.errors import ProtocolError

__all__ = ["judge_keys"]

WORD = 8
SEED_BYTES = 16  # of each key, before its words
SEEDED = 1  # how a key is compressed
MOST_SEGMENTS = 512
MOST_RUNS = 16  # of bytes: Concrete cuts a key of half a gigabyte
STRUCT, LIST, FAR = 0, 1, 2  # kinds of pointers
BYTES, POINTERS, COMPOSITE = 2, 6, 7  # kinds of lists


@dataclass(frozen=True)
class _Place:
    """A word of a segment."""

    segment: int
    word: int

    def __add__(self, words: int) -> _Place:
        return _Place(self.segment, self.word + words)


class _Message:
    """A message of Cap'n Proto that can be read word by word. Whatever leaves its bounds is a `ValueError`."""

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
            raise ValueError("segments that are not all there is")

    def word(self, place: _Place) -> int:
        start, _ = self._segments[self._within(place, 1).segment]
        return int.from_bytes(self._data[(start + place.word) * WORD : (start + place.word + 1) * WORD], "little")

    def _within(self, place: _Place, words: int) -> _Place:
        if not place.segment < len(self._segments) or not 0 <= place.word <= self._segments[place.segment][1] - words:
            raise ValueError("a pointer out of bounds")
        return place

    def _target(self, pointer: _Place) -> tuple[_Place, int, int]:
        """Where a pointer leads, its kind, and its upper half."""
        value = self.word(pointer)
        if value & 7 == FAR:
            pointer = _Place(value >> 32, (value & 0xFFFFFFFF) >> 3)
            value = self.word(pointer)
        offset = (value & 0xFFFFFFFF) >> 2
        return pointer + (1 + offset - (offset >> 29 << 30)), value & 3, value >> 32

    def structure(self, pointer: _Place, data: int, pointers: int) -> _Place:
        """The start of a structure of exactly so many words of data and pointers."""
        place, kind, sizes = self._target(pointer)
        if kind != STRUCT or sizes != data | pointers << 16:
            raise ValueError("a structure of another size")
        return self._within(place, data + pointers)

    def elements(self, pointer: _Place, count: int, pointers: int) -> list[_Place]:
        """The starts of a list's structures, so many, each of pointers alone."""
        place, kind, size = self._target(pointer)
        if kind != LIST or size != COMPOSITE | count * pointers << 3 or self.word(place) != count << 2 | pointers << 48:
            raise ValueError("a list of another length")
        self._within(place, 1 + count * pointers)
        return [place + (1 + number * pointers) for number in range(count)]

    def runs(self, pointer: _Place) -> list[int]:
        """The lengths of a list's runs of bytes."""
        place, kind, size = self._target(pointer)
        if kind != LIST or size & 7 != POINTERS or not 1 <= size >> 3 <= MOST_RUNS:
            raise ValueError("words in too many pieces")
        return [self._run(place + number) for number in range(size >> 3)]

    def _run(self, pointer: _Place) -> int:
        place, kind, size = self._target(pointer)
        length = size >> 3
        if kind != LIST or size & 7 != BYTES or length % WORD:
            raise ValueError("words that are none")
        self._within(place, length // WORD)
        return length


def _pair(low: int, high: int = 0) -> int:
    return low | high << 32


def _parameters(key: Bootstrap | Keyswitch) -> list[int]:
    """The words of a key's parameters."""
    (noise,) = struct.unpack("<Q", struct.pack("<d", key.variance))
    head, precision = _pair(key.levels, key.base), _pair(PRECISION)  # and 0: binary
    if isinstance(key, Bootstrap):
        return [head, _pair(key.glwe_dimension, key.polynomial_size), noise, precision, _pair(key.source_dimension)]
    return [head, noise, precision, _pair(key.source_dimension, key.dimension)]


def _judge_words(message: _Message, place: _Place, expected: Sequence[int]) -> None:
    if any(message.word(place + number) != word for number, word in enumerate(expected)):
        raise ValueError("parameters of another circuit")


def _judge_key(message: _Message, place: _Place, number: int, key: Bootstrap | Keyswitch) -> None:
    """A structure of two pointers: what the key is, and its words."""
    info, expected = message.structure(place, 2, 1), _parameters(key)
    _judge_words(message, info, [_pair(number, key.source), _pair(key.target, SEEDED)])
    parameters = message.structure(info + 2, len(expected), 1)
    _judge_words(message, parameters, expected)
    modulus = message.structure(parameters + len(expected), 1, 1)
    _judge_words(message, modulus, [0])  # native
    message.structure(modulus + 1, 0, 0)
    length = sum(message.runs(message.structure(place + 1, 0, 1)))
    if length != key.size + SEED_BYTES:
        raise ValueError(f"a key of {length} bytes")


def judge_keys(name: str, data: memoryview, numbers: Numbers) -> None:
    """Raises `ProtocolError` naming the key `name` unless these are serialised evaluation keys of this specification."""
    try:
        message = _Message(data)
        root = message.structure(_Place(0, 0), 0, 3)
        kinds: tuple[Sequence[Bootstrap | Keyswitch], ...] = (numbers.bootstraps, numbers.keyswitches, ())  # none for packing
        for place, kind in enumerate(kinds):
            for number, element in enumerate(message.elements(root + place, len(kind), 2)):
                _judge_key(message, element, number, kind[number])
    except (ValueError, struct.error) as error:
        raise ProtocolError(f"key '{name}' holds no evaluation keys of this circuit: {error}") from error
