"""Packs words of any number of bits to bytes and back, without unused bits between words.

The whole bytes of every word come first, little-endian. The remaining high bits of all words follow, packed, the first word lowest.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hecompile.errors import ProtocolError

__all__ = ["SEED_BYTES", "pack_bits", "pack_signed", "packed_bytes", "round_off", "unpack_bits", "unpack_signed"]

Words = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]

SEED_BYTES = 64  # what SEAL sends in place of a fresh `a`, under `ckks`


def packed_bytes(count: int, bits: int) -> int:
    """How many bytes `count` words of `bits` bits take."""
    return count * (bits // 8) + -(-count * (bits % 8) // 8)


def pack_bits(words: Words, bits: int) -> bytes:
    """The packed bytes of words below 2^bits, in C order."""
    flat = np.ascontiguousarray(words, "<u8").reshape(-1)
    whole, rest = divmod(bits, 8)
    packed = _low_bytes(flat, whole).tobytes() if whole else b""
    if rest:
        octets = np.zeros(-(-len(flat) // 8) * 8, np.uint8)
        octets[: len(flat)] = flat.view(np.uint8)[whole::8]
        squeezed = _low_bytes(_squeeze(octets.view("<u8"), rest), rest).tobytes()
        packed += squeezed[: -(-len(flat) * rest // 8)]
    return packed


def unpack_bits(data: memoryview, count: int, bits: int) -> Words:
    """The inverse of `pack_bits`, (count) words. Raises `ProtocolError` if the size is wrong or an unused bit is not zero."""
    if len(data) != packed_bytes(count, bits):
        raise ProtocolError(f"{len(data)} bytes where {count} words of {bits} bits take {packed_bytes(count, bits)}")
    whole, rest = divmod(bits, 8)
    words = np.zeros(count, "<u8")
    if whole:
        _low_bytes(words, whole)[...] = np.frombuffer(data, f"V{whole}", count)
    if rest:
        groups = -(-count // 8)
        squeezed = np.zeros(groups, "<u8")
        _low_bytes(squeezed, rest)[...] = np.frombuffer(bytes(data[count * whole :]).ljust(groups * rest, b"\0"), f"V{rest}")
        octets = _spread(squeezed, rest).view(np.uint8)
        if octets[count:].any():
            raise ProtocolError("the bits after the last word are not zero")
        words.view(np.uint8)[whole::8] = octets[:count]
    return words


def _low_bytes(words: Words, count: int) -> npt.NDArray[np.void]:
    """A view of the `count` lowest bytes of every word, each as one item: numpy copies items faster than rows of bytes."""
    return np.ndarray(len(words), f"V{count}", words, 0, (8,))


def _lanes(width: int, bits: int) -> tuple[np.uint64, np.uint64, np.uint64]:
    """Two masks and a shift that merge neighbouring lanes of `width` bits, of which the low `bits` bits are used.

    The masks select the first lane of each pair, and the second one after it was shifted down by the third number.
    """
    first = sum(((1 << bits) - 1) << start for start in range(0, 64, 2 * width))
    return np.uint64(first), np.uint64(first << bits), np.uint64(width - bits)


def _squeeze(octets: Words, bits: int) -> Words:
    """Eight bytes below 2^bits in every word -> 8 * bits bits, the first byte lowest."""
    for width in (8, 16, 32):
        first, second, shift = _lanes(width, width // 8 * bits)
        octets = octets & first | octets >> shift & second
    return octets


def _spread(squeezed: Words, bits: int) -> Words:
    """The inverse of `_squeeze`."""
    for width in (32, 16, 8):
        first, second, shift = _lanes(width, width // 8 * bits)
        squeezed = squeezed & first | (squeezed & second) << shift
    return squeezed


def pack_signed(values: Integers, bits: int) -> bytes:
    """The packed bytes of integers in [-2^(bits-1), 2^(bits-1))."""
    return pack_bits((values + (1 << (bits - 1))).astype(np.uint64), bits)


def unpack_signed(data: memoryview, count: int, bits: int) -> Integers:
    """The inverse of `pack_signed`. Raises `ProtocolError` if the size is wrong."""
    return unpack_bits(data, count, bits).astype(np.int64) - (1 << (bits - 1))


def round_off(words: Words, bits: int, q_bits: int) -> Words:
    """The words without their `bits` low bits, rounded to nearest. A word that rounds up to 2^q_bits becomes
    zero: it is within 2^(bits - 1) of q, which is zero modulo q.
    """
    if not bits:
        return words
    rounded = words + np.uint64(1 << (bits - 1)) >> np.uint64(bits)
    return rounded & np.uint64((1 << (q_bits - bits)) - 1)
