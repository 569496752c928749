"""SEAL's documented file format (`seal/serialization.h`, version 4.x), in memory and through memory files.

TenSEAL's binding of SEAL reads and writes files only, and always compresses what it writes. Files here are memory files
(`memfd_create`): plaintexts and keys pass through them, so they never have a name in a folder. Any other version is refused.
"""

from __future__ import annotations

import os
import struct
import threading
import weakref

from hecompile.errors import InternalError

__all__ = ["ARRAY_BYTES", "FILE", "HEADER_BYTES", "MEMBERS_BYTES", "PRNG_BLAKE2XB", "array", "header", "members"]

_MAGIC, HEADER_BYTES, _MAJOR = 0xA15E, 16, 4
PRNG_BLAKE2XB = 1
MEMBERS_BYTES = 73  # of a ciphertext, before its words: parms_id, NTT flag, size, N, primes, scale, correction factor
ARRAY_BYTES = 24  # header of the array of words and its count


class _Memory:
    """A memory file, closed when nothing refers to it any more: at the end of its thread, at the latest."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.descriptor = os.memfd_create("hecompile", os.MFD_CLOEXEC)
        weakref.finalize(self, os.close, self.descriptor)


class _File(threading.local):
    """One memory file per thread and process."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Take a file of one's own, as a forked process must: it would write to its parent's."""
        self._memory = _Memory()

    @property
    def descriptor(self) -> int:
        """The open file, never one that belongs to another process."""
        if self._memory.process != os.getpid():
            self.renew()
        return self._memory.descriptor

    @property
    def path(self) -> str:
        """A name by which this process opens the file."""
        return f"/proc/self/fd/{self.descriptor}"

    def write(self, blob: bytes | memoryview) -> str:
        """Replace what is in the file. Returns its path."""
        descriptor = self.descriptor
        os.ftruncate(descriptor, 0)
        written, view = 0, memoryview(blob).cast("B")
        while written < len(view):  # one call writes at most 2 GiB
            written += os.pwrite(descriptor, view[written:], written)
        return self.path

    def read(self) -> bytes:
        """What SEAL wrote, without its header and uncompressed."""
        descriptor = self.descriptor
        return members(os.pread(descriptor, os.fstat(descriptor).st_size, 0))


FILE = _File()
os.register_at_fork(after_in_child=FILE.renew)  # at once: the parent's plaintexts are none of the child's business


def header(payload: int) -> bytes:
    """SEAL's 16-byte header for an uncompressed object of `payload` bytes."""
    return struct.pack("<HBBBBHQ", _MAGIC, HEADER_BYTES, _MAJOR, 3, 0, 0, HEADER_BYTES + payload)


def array(data: bytes, count: int) -> bytes:
    """An array of words with its header and count."""
    return header(8 + len(data)) + struct.pack("<Q", count) + data


def members(blob: bytes) -> bytes:
    """An object that SEAL wrote, without its header and uncompressed. Raises `InternalError` for another version of the format."""
    magic, length, major, _, mode, _, size = struct.unpack("<HBBBBHQ", blob[:HEADER_BYTES])
    if (magic, length, major) != (_MAGIC, HEADER_BYTES, _MAJOR) or size != len(blob):
        raise InternalError(f"SEAL wrote format version {major}: hecompile knows version {_MAJOR} only")
    if mode == 2:
        import zstandard

        found: bytes = zstandard.ZstdDecompressor().decompressobj().decompress(blob[HEADER_BYTES:])
        return found
    if mode == 0:
        return blob[HEADER_BYTES:]
    raise InternalError(f"SEAL compressed a file in mode {mode}: hecompile knows 0 and 2")
