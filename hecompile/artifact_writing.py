"""Writes an artifact whole or not at all (see `hecompile.artifact`). The same program gives the same bytes.

An artifact that is already there is replaced; anything else is not. `check_target` checks that hecompile wrote every file of the
folder, before the work starts and again before the new artifact is moved to its place.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from hecompile.artifact_files import FORMAT, MANIFEST, MANIFEST_BYTES, digest, file_digest
from hecompile.artifact_server import ServerManifest
from hecompile.errors import CompileError, Diagnostic, ProtocolError
from hecompile.ir.halves import Half
from hecompile.outputs import reason_of
from hecompile.untrusted import parse_json, read_file

__all__ = ["check_target", "checksums", "remove", "to_json", "write_folder", "write_half", "write_server"]

KEYS = {"format", "name", "policy", "backend", "plan", "server", "files"}  # of a manifest, in every format so far


def to_json(document: object) -> bytes:
    """Return a document as JSON. Equal documents give equal bytes."""
    return (json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def check_target(target: Path, strange: Callable[[Path], str] | None = None) -> None:
    """Check that an artifact can be written to `target`.

    Args:
        strange: returns why an existing folder must not be replaced, or an empty text. By default it accepts artifacts alone.

    Raises:
        CompileError: if `target` is there and is neither an empty folder nor an artifact in every file, if it is a link or the
            current folder, if it lies in an artifact, or if its folder cannot be written to.
    """
    try:
        place = _place(target)
        reason = _why_not(place, strange or _strange)
        above = place.parent
        while not reason and not os.path.lexists(above):
            above = above.parent
        if not reason and not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
            reason = f"cannot be written: no folder can be made in {above}"
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        reason = f"cannot be written: {reason_of(error)}"
    if reason:
        name = str(target) if str(target).isprintable() else repr(str(target))
        raise CompileError(Diagnostic(f"{name} {reason}", help="choose another folder"))


def _place(target: Path) -> Path:
    """Return the absolute path. Links in it are followed, except its last part."""
    path = target.absolute()
    if "\0" in str(path):
        raise ValueError("embedded null character")
    return path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name


def _why_not(place: Path, strange: Callable[[Path], str]) -> str:
    """Return why no artifact may be written to this path; empty if it may."""
    if place.is_symlink():
        return "is a link, which is neither followed nor replaced"
    holder = next((parent for parent in place.parents if _manifest_files(parent) is not None), None)
    if holder is not None:
        return f"lies in the artifact {holder}"
    if not place.exists():
        return ""
    here = Path.cwd().resolve()
    if here == place or place in here.parents:
        return "is the current folder, or holds it"
    if not place.is_dir():
        return "exists and is not an artifact: it is a file"
    if place.is_mount():
        return "is the root of a mounted volume, which cannot be replaced: name a folder in it"
    if not os.access(place, os.W_OK | os.X_OK):
        return "cannot be written: it belongs to somebody else"
    reason = strange(place)
    return f"exists and is not an artifact: {reason}" if reason else ""


def _strange(folder: Path) -> str:
    """Return which file of a folder is not listed in its manifest, absent or changed. Empty if there is no such file."""
    if not any(folder.iterdir()):
        return ""
    files = _manifest_files(folder)
    if files is None:
        return f"it has no {MANIFEST} that hecompile wrote"
    folders = {parent for name in files for parent in Path(name).parents}
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        known = place in folders if path.is_dir() and not path.is_symlink() else place.as_posix() in {*files, MANIFEST}
        if not known:
            return f"'{place}' does not belong to it"
    for name, checksum in sorted(files.items()):
        try:
            data = read_file(folder / name, (folder / name).stat().st_size)
        except (OSError, ProtocolError):
            return f"'{name}' is missing or cannot be read"
        if digest(data) != checksum:
            return f"'{name}' was changed since it was compiled"
    return ""


def _manifest_files(folder: Path) -> dict[str, str] | None:
    """Return the checksums of the files of an artifact of this or an earlier format; None if the folder has no manifest of
    hecompile."""
    try:
        data = read_file(folder / MANIFEST, MANIFEST_BYTES)
        document = parse_json(data, MANIFEST)
    except ProtocolError:
        return None
    if not isinstance(document, dict) or not set(document) >= KEYS or to_json(document) != data:
        return None
    version, files = document["format"], document["files"]
    if type(version) is not int or not 1 <= version <= FORMAT or not isinstance(files, dict):
        return None
    if not files or files.get(f"server/{MANIFEST}") != document["server"]:
        return None
    inside = all(not Path(name).is_absolute() and ".." not in Path(name).parts for name in files)
    return files if inside else None


def write_folder(target: Path, fill: Callable[[Path], None], strange: Callable[[Path], str] | None = None) -> None:
    """Fill a new folder next to `target`, then move it there in one step. An artifact that was there is replaced.

    `strange` is as in `check_target`.

    Raises:
        CompileError: if `check_target` refuses the place, before or after the folder was filled, or if it cannot be written. Then
            everything is as it was before.
    """
    check_target(target, strange)
    place = _place(target)
    try:
        with _made(place.parent), tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name[:50]}.") as scratch:
            new = Path(scratch) / "new"
            new.mkdir()
            fill(new)
            check_target(target, strange)
            _exchange(new, place, Path(scratch) / "old")
    except OSError as error:
        raise CompileError(Diagnostic(f"{target} cannot be written: {reason_of(error)}", help="choose another folder")) from error


def _exchange(new: Path, place: Path, old: Path) -> None:
    """Move `place` to `old` and `new` to `place`. If that fails, `place` is as it was before."""
    try:
        if place.exists():
            os.replace(place, old)
        os.replace(new, place)
    except BaseException:  # signals too; what is left in the temporary folder is deleted with it
        if old.exists() and not place.exists():
            os.replace(old, place)
        raise


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder and those above it. If the block fails, the folders that were made are removed."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in missing:
            with suppress(OSError):  # it stays if somebody else put a file there
                path.rmdir()
        raise


def write_half(folder: Path, region: str, half: Half) -> None:
    """Write one half of a region: `region.json` and `region.safetensors`."""
    from safetensors.numpy import save

    (folder / f"{region}.json").write_bytes(to_json(half.program))
    (folder / f"{region}.safetensors").write_bytes(save(dict(half.tensors)))


def checksums(root: Path, skip: str = MANIFEST) -> dict[str, str]:
    """Return the sha256 checksums of all files below `root` except `root/skip`, by relative path."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and path != root / skip)
    return {path.relative_to(root).as_posix(): file_digest(path) for path in files}


def write_server(folder: Path, name: str, backend: str, encrypted: bool, max_batch: int, halves: Mapping[str, Half]) -> str:
    """Write the server half with all its regions, and return the digest that names the artifact on the wire."""
    folder.mkdir()
    for region, half in halves.items():
        write_half(folder, region, half)
    manifest = ServerManifest(FORMAT, name, backend, encrypted, max_batch, tuple(sorted(halves)), checksums(folder))
    data = to_json(asdict(manifest))
    (folder / MANIFEST).write_bytes(data)
    return digest(data)


def remove(folder: Path) -> None:
    """Delete an artifact. Raises `CompileError`, and deletes nothing, if any file in `folder` does not belong to an artifact."""
    if folder.is_symlink() or _manifest_files(folder) is None:
        raise CompileError(Diagnostic(f"{folder} is not an artifact: it has no {MANIFEST} that hecompile wrote"))
    check_target(folder)
    shutil.rmtree(folder)
