"""Writes the output files of commands whole or not at all, and checks beforehand that they can be written."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from hecompile.errors import CompileError, Diagnostic

__all__ = ["check_file", "reason_of", "write_file"]


def check_file(path: Path) -> None:
    """Raise `CompileError` if `write_file` could not write this file: its folder is absent or not writable, or it is a folder."""
    try:
        if "\0" in str(path):
            raise ValueError("embedded null character")
        folder = Path(os.path.realpath(path)).parent
        if not folder.is_dir() and not _is_special(path):
            raise CompileError(Diagnostic(f"{path}: there is no folder {folder}", help="make it first, or choose another file"))
        needed = [path] if _is_special(path) else [folder, path] if path.exists() else [folder]
        closed = path.is_dir() or not all(os.access(place, os.W_OK) for place in needed)
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise _refusal(path, error) from error
    if closed:
        raise CompileError(Diagnostic(f"{path} cannot be written", help="choose another file"))


def write_file(path: Path, data: bytes) -> None:
    """Write a new file beside `path`, then move it there in one step. A file that was there stays until then.

    A link is followed; a device or a pipe is written to directly.

    Raises:
        CompileError: if the file cannot be written, for example because the disk is full. Then nothing of it is left.
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
    """Return whether the path exists and is no regular file. Links are not resolved: the file behind /dev/stdout may have no
    name."""
    return path.exists() and not stat.S_ISREG(path.stat().st_mode)


def _refusal(path: Path, error: OSError | ValueError) -> CompileError:
    name = str(path) if str(path).isprintable() else repr(str(path))
    return CompileError(Diagnostic(f"{name} cannot be written: {reason_of(error)}", help="choose another file"))


def reason_of(error: OSError | ValueError) -> str:
    """Return the system's text for an error, without its number and without the name of the file."""
    return str(getattr(error, "strerror", None) or error)
