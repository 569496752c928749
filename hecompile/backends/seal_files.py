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
    """A memory file. It is closed when nothing refers to it any more, at the latest at the end of its thread."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.descriptor = os.memfd_create("hecompile", os.MFD_CLOEXEC)
        weakref.finalize(self, os.close, self.descriptor)


class _File(threading.local):
    """One memory file for each thread and process."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Open a new file. A forked process must, since it would otherwise write to the file of its parent."""
        self._memory = _Memory()

    @property
    def descriptor(self) -> int:
        """The open file of this process, never one of another process."""
        if self._memory.process != os.getpid():
            self.renew()
        return self._memory.descriptor

    @property
    def path(self) -> str:
        """A path by which this process can open the file."""
        return f"/proc/self/fd/{self.descriptor}"

    def write(self, blob: bytes | memoryview) -> str:
        """Replace the content of the file. Returns its path."""
        descriptor = self.descriptor
        os.ftruncate(descriptor, 0)
        written, view = 0, memoryview(blob).cast("B")
        while written < len(view):  # one call writes at most 2 GiB
            written += os.pwrite(descriptor, view[written:], written)
        return self.path

    def read(self) -> bytes:
        """The bytes that SEAL wrote to the file, uncompressed and without header."""
        descriptor = self.descriptor
        return members(os.pread(descriptor, os.fstat(descriptor).st_size, 0))


FILE = _File()
os.register_at_fork(after_in_child=FILE.renew)  # immediately: the child must not see the parent's plaintexts


def header(payload: int) -> bytes:
    """SEAL's 16-byte header for an uncompressed object of `payload` bytes."""
    return struct.pack("<HBBBBHQ", _MAGIC, HEADER_BYTES, _MAJOR, 3, 0, 0, HEADER_BYTES + payload)


def array(data: bytes, count: int) -> bytes:
    """An array of `count` words in SEAL's format: header, count and words."""
    return header(8 + len(data)) + struct.pack("<Q", count) + data


def members(blob: bytes) -> bytes:
    """The bytes of an object that SEAL wrote, uncompressed, without header. Raises `InternalError` for another format version."""
    magic, length, major, _, mode, _, size = struct.unpack("<HBBBBHQ", blob[:HEADER_BYTES])
    if (magic, length, major) != (_MAGIC, HEADER_BYTES, _MAJOR) or size != len(blob):
        raise InternalError(f"SEAL wrote format version {major}: hecompile knows version {_MAJOR} only")
    if mode == 2:
        import zstandard

        uncompressed: bytes = zstandard.ZstdDecompressor().decompressobj().decompress(blob[HEADER_BYTES:])
        return uncompressed
    if mode == 0:
        return blob[HEADER_BYTES:]
    raise InternalError(f"SEAL compressed a file in mode {mode}: hecompile knows 0 and 2")
