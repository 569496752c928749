"""Words of any width on the wire, without a spare bit per word.

The whole bytes of every word come first (little-endian), then the remaining high bits of all words, packed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hecompile.errors import ProtocolError

__all__ = ["SEED_BYTES", "pack_bits", "packed_bytes", "unpack_bits"]

Words = npt.NDArray[np.uint64]

SEED_BYTES = 64  # what SEAL sends in place of a fresh `a`


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that `count` words of `bits` bits take."""
    return count * (bits // 8) + -(-count * (bits % 8) // 8)


def pack_bits(words: Words, bits: int) -> bytes:
    """Words below 2^bits, in C order."""
    octets = np.ascontiguousarray(words, "<u8").reshape(-1, 1).view(np.uint8)  # (n, 8)
    whole, rest = divmod(bits, 8)
    packed = octets[:, :whole].tobytes()
    if rest:
        high = np.unpackbits(octets[:, whole : whole + 1], axis=1, count=rest, bitorder="little")
        packed += np.packbits(high, bitorder="little").tobytes()
    return packed


def unpack_bits(data: memoryview, count: int, bits: int) -> Words:
    """The inverse of `pack_bits`: (count) words. Raises `ProtocolError` if the size is wrong or padding is not zero."""
    if len(data) != packed_bytes(count, bits):
        raise ProtocolError(f"{len(data)} bytes where {count} words of {bits} bits take {packed_bytes(count, bits)}")
    whole, rest = divmod(bits, 8)
    octets = np.zeros((count, 8), np.uint8)
    octets[:, :whole] = np.frombuffer(data, np.uint8, count * whole).reshape(count, whole)
    if rest:
        tail = np.unpackbits(np.frombuffer(data, np.uint8, offset=count * whole), bitorder="little")
        if tail[count * rest :].any():
            raise ProtocolError("the bits after the last word are not zero")
        octets[:, whole] = np.packbits(tail[: count * rest].reshape(count, rest), axis=1, bitorder="little")[:, 0]
    return octets.view("<u8").reshape(count)
