"""Reads files and documents that an attacker may have written, such as those of an artifact, and replies of a server.

Every failure is a `ProtocolError`. Nothing here follows a link, waits for a pipe, or takes more memory than its limit.
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

DEEPEST = 40  # levels of brackets in a document, at most
MOST_VALUES = 1 << 20  # commas in a document, at most: every value takes some hundred bytes of memory
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)', re.DOTALL)  # one without an end takes the rest, so each byte is read once
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_file(path: Path, most_bytes: int) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        ProtocolError: if the file is absent, a link, a pipe or a device, or longer than `most_bytes`.
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
    """Return the bytes of a regular file, mapped into memory: they are read from the file when they are accessed.

    If the file may change, its bytes must be copied before they are checked.

    Raises:
        ProtocolError: as `read_file` does, and for a file without any bytes.
    """
    with _opened(path, most_bytes) as stream:
        try:
            return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError) as error:
            raise ProtocolError(f"{path}: {getattr(error, 'strerror', None) or 'empty'}") from error


def _opened(path: Path, most_bytes: int) -> BinaryIO:
    """Open a regular file of at most `most_bytes` bytes for reading. Raises `ProtocolError` as `read_file` does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        linked = path.is_symlink() if "\0" not in str(path) else False
        reason = "it is a link, and links are not followed" if linked else getattr(error, "strerror", None) or str(error)
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
    """Parse a JSON document in which no key is repeated in an object, every number is finite, and brackets nest at most `DEEPEST`
    deep. It has at most `MOST_VALUES` commas outside of strings.

    Raises:
        ProtocolError: which names `what`, for anything else.
    """
    raw = data.encode("utf-8", "replace") if isinstance(data, str) else data
    bare = _STRING.sub(b"", raw)
    if _depth(bare) > DEEPEST:
        raise ProtocolError(f"{what}: brackets nest deeper than {DEEPEST}")
    if bare.count(b",") > MOST_VALUES:
        raise ProtocolError(f"{what}: more than {MOST_VALUES} values")
    try:
        document = json.loads(raw.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite)
        if _SURROGATE.search(raw):  # half of a surrogate pair is no character and cannot be printed: encoding raises ValueError
            json.dumps(document, ensure_ascii=False).encode()
        return document
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"{what}: not JSON as it is written here: {str(error)[:200]}") from error


def difference(written: Any, read: Any) -> str | None:
    """Return the path of the first place where two documents differ, or None if they are equal. An integer may be written for a
    float."""
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
    """Return how deep brackets nest in a document without its strings."""
    depth = deepest = 0
    for byte in data.translate(None, _OTHERS):
        depth += 1 if byte in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    result = dict[str, Any]()
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the key '{key[:60]}' stands twice")
        result[key] = value
    return result


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} is too large")
    return value
