"""Files that commands write: judged before the work is done for them, and written whole or not at all."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from hecompile.errors import CompileError, Diagnostic

__all__ = ["judge_file", "reason_of", "write_file"]


def judge_file(path: Path) -> None:
    """Raise `CompileError` for what `write_file` could not write: its folder is absent or closed, or it is a folder itself."""
    try:
        if "\0" in str(path):
            raise ValueError("embedded null character")
        folder = Path(os.path.realpath(path)).parent
        if not folder.is_dir() and not _is_special(path):
            raise CompileError(Diagnostic(f"{path}: there is no folder {folder}", help="make it first, or choose another file"))
        needed = [path] if _is_special(path) else [folder, path] if path.exists() else [folder]
        closed = path.is_dir() or not all(os.access(each, os.W_OK) for each in needed)
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise _refusal(path, error) from error
    if closed:
        raise CompileError(Diagnostic(f"{path} cannot be written", help="choose another file"))


def write_file(path: Path, data: bytes) -> None:
    """Write a file beside `path`, then put it in its place at once: a file that was there stays until then.

    A link is followed, and a device or a pipe is written to directly.

    Raises:
        CompileError: if it cannot be written, for a full disk, say. Nothing of it is left then.
    """
    scratch = None
    try:
        if _is_special(path):
            path.write_bytes(data)
            return
        place = Path(os.path.realpath(path))
        scratch = place.with_name(f".{place.name[:50]}.{os.getpid()}.{os.urandom(4).hex()}")
        with scratch.open("xb") as stream:
            stream.write(data)
        if place.exists():
            shutil.copymode(place, scratch)
        os.replace(scratch, place)
        scratch = None
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from error
    finally:
        if scratch is not None:
            with suppress(OSError):
                scratch.unlink()


def _is_special(path: Path) -> bool:
    """Whether it is there and no regular file. Asked of the path as it is given: what /dev/stdout leads to may have no name."""
    return path.exists() and not stat.S_ISREG(path.stat().st_mode)


def _refusal(path: Path, error: OSError | ValueError) -> CompileError:
    shown = str(path) if str(path).isprintable() else repr(str(path))
    return CompileError(Diagnostic(f"{shown} cannot be written: {reason_of(error)}", help="choose another file"))


def reason_of(error: OSError | ValueError) -> str:
    """What the system says, without its number and without the name of a file."""
    return str(getattr(error, "strerror", None) or error)
