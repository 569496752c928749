"""Reading what somebody else may have written: files of an artifact, documents in them, replies of a server.

Every failure is a `ProtocolError`: nothing here follows a link, waits for a pipe, or takes more memory than its limit says.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from hecompile.errors import ProtocolError

__all__ = ["DEEPEST", "difference", "map_file", "parse_json", "read_file"]

DEEPEST = 40  # brackets within brackets of a document
MOST_VALUES = 1 << 20  # commas of a document: each value takes some hundred bytes
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)  # one without an end takes the rest: each byte is read once
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_file(path: Path, most_bytes: int) -> bytes:
    """A regular file's bytes.

    Raises:
        ProtocolError: if it is absent, no regular file (links, pipes and devices are none), or longer than `most_bytes`.
    """
    with _opened(path, most_bytes) as stream:
        try:
            data = stream.read(most_bytes + 1)
        except (OSError, MemoryError) as error:
            raise ProtocolError(f"{path}: {getattr(error, 'strerror', None) or 'no memory for it'}") from error
    if len(data) > most_bytes:
        raise ProtocolError(f"{path}: grew beyond {most_bytes} bytes while it was read")
    return data


def map_file(path: Path, most_bytes: int) -> memoryview:
    """The same, mapped into memory: bytes are read when they are looked at. They are those of the file, so what may change must be
    copied before it is judged.

    Raises:
        ProtocolError: as `read_file` does, and for a file without any bytes.
    """
    with _opened(path, most_bytes) as stream:
        try:
            return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError) as error:
            raise ProtocolError(f"{path}: {getattr(error, 'strerror', None) or 'empty'}") from error


def _opened(path: Path, most_bytes: int) -> BinaryIO:
    """A regular file of at most so many bytes, to be read. Raises `ProtocolError`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        linked = path.is_symlink() if "\0" not in str(path) else False
        reason = "a link, and links are not followed" if linked else getattr(error, "strerror", None) or str(error)
        raise ProtocolError(f"{str(path)!r:.300}: {reason}" if "\0" in str(path) else f"{path}: {reason}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ProtocolError(f"{path}: not a regular file")
    if status.st_size > most_bytes:
        os.close(descriptor)
        raise ProtocolError(f"{path}: {status.st_size} bytes, at most {most_bytes} are read")
    return os.fdopen(descriptor, "rb")


def parse_json(data: bytes | str, what: str) -> Any:
    """A JSON document in which every key stands once, every number is finite, and brackets nest at most `DEEPEST` deep.

    It has at most `MOST_VALUES` commas, outside of texts.

    Raises:
        ProtocolError: naming `what`, for anything else.
    """
    raw = data.encode("utf-8", "replace") if isinstance(data, str) else data
    bare = _STRING.sub(b"", raw)
    if _depth(bare) > DEEPEST:
        raise ProtocolError(f"{what}: brackets nest deeper than {DEEPEST}")
    if bare.count(b",") > MOST_VALUES:
        raise ProtocolError(f"{what}: more than {MOST_VALUES} values")
    try:
        found = json.loads(raw.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite)
        if _SURROGATE.search(raw):  # pairs are characters; half of one is none, and cannot be printed
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{what}: not JSON as it is written here: {str(error)[:200]}") from error


def difference(written: Any, read: Any) -> str | None:
    """The first place where two documents differ, None if they are the same; a whole number may be written for a float."""
    if isinstance(written, Mapping) and isinstance(read, Mapping):
        odd = next((key for key in (*written, *read) if key not in read or key not in written), None)
        if odd is not None:
            return str(odd)[:60]
        pairs = [(str(key), written[key], read[key]) for key in read]
    elif isinstance(written, list | tuple) and isinstance(read, list | tuple):
        if len(written) != len(read):
            return ""
        pairs = [(str(place), *pair) for place, pair in enumerate(zip(written, read, strict=True))]
    else:
        number = isinstance(written, int | float) and isinstance(read, int | float)
        alike = type(written) is type(read) or (number and bool not in (type(written), type(read)))
        return None if alike and written == read else ""
    for name, first, second in pairs:
        place = difference(first, second)
        if place is not None:
            return f"{name}.{place}" if place else name
    return None


def _depth(data: bytes) -> int:
    """How deep brackets nest, where strings were left out."""
    depth = deepest = 0
    for byte in data.translate(None, _OTHERS):
        depth += 1 if byte in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found = dict[str, Any]()
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key '{key[:60]}' stands twice")
        found[key] = value
    return found


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is beyond every number")
    return value
