"""Writing an artifact: all or nothing, and the same input gives the same bytes. `hecompile.artifact` says what is in it.

An artifact that is already there is replaced, and nothing else is: `judge_target` says of every file in the folder whether we wrote
it, before the work starts and again before the new artifact is put in its place.
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

__all__ = ["checksums", "judge_target", "remove", "to_json", "write_folder", "write_half", "write_server"]

KEYS = {"format", "name", "policy", "backend", "plan", "server", "files"}  # of a manifest, in every format so far


def to_json(document: object) -> bytes:
    """One spelling per document."""
    return (json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def judge_target(target: Path, strange: Callable[[Path], str] | None = None) -> None:
    """Whether an artifact can be written there, asked before the work.

    Args:
        strange: says of a folder that is there what keeps it from being one that may be replaced; of artifacts by default.

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
            reason = f"cannot be written: {above} takes no new folder"
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        reason = f"cannot be written: {reason_of(error)}"
    if reason:
        shown = str(target) if str(target).isprintable() else repr(str(target))
        raise CompileError(Diagnostic(f"{shown} {reason}", help="choose another folder"))


def _place(target: Path) -> Path:
    """The absolute path, its last part not followed if it is a link."""
    path = target.absolute()
    if "\0" in str(path):
        raise ValueError("embedded null character")
    return path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name


def _why_not(place: Path, strange: Callable[[Path], str]) -> str:
    """Why nothing may be put there, or nothing."""
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
    """Say which file keeps a folder from being an artifact of ours: it is not listed, absent or changed. An empty string says that
    every file is in order, or that there is none."""
    if not any(folder.iterdir()):
        return ""
    files = _manifest_files(folder)
    if files is None:
        return f"there is no {MANIFEST} of ours in it"
    folders = {parent for name in files for parent in Path(name).parents}
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        known = place in folders if path.is_dir() and not path.is_symlink() else place.as_posix() in {*files, MANIFEST}
        if not known:
            return f"'{place}' is not of it"
    for name, checksum in sorted(files.items()):
        try:
            data = read_file(folder / name, (folder / name).stat().st_size)
        except (OSError, ProtocolError):
            return f"'{name}' is missing or cannot be read"
        if digest(data) != checksum:
            return f"'{name}' was changed since it was compiled"
    return ""


def _manifest_files(folder: Path) -> dict[str, str] | None:
    """The checksums of an artifact's files, of this format or an earlier one; None where there is no manifest of ours."""
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
    """Fill a folder next to `target`, then put it in its place at once; an artifact that was there is replaced.

    `strange` is that of `judge_target`, for folders of other kinds.

    Raises:
        CompileError: if `judge_target` refuses the place, before or after it was filled, or if the disk is full, say. What was
            there stays as it was, and nothing is left beside it.
    """
    judge_target(target, strange)
    place = _place(target)
    try:
        with _made(place.parent), tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name[:50]}.") as scratch:
            new = Path(scratch) / "new"
            new.mkdir()
            fill(new)
            judge_target(target, strange)
            _exchange(new, place, Path(scratch) / "old")
    except OSError as error:
        raise CompileError(Diagnostic(f"{target} cannot be written: {reason_of(error)}", help="choose another folder")) from error


def _exchange(new: Path, place: Path, old: Path) -> None:
    """Put `new` in its place and what was there at `old`, or leave what was there where it was."""
    try:
        if place.exists():
            os.replace(place, old)
        os.replace(new, place)
    except BaseException:  # signals too: what is left in the scratch folder is deleted with it
        if old.exists() and not place.exists():
            os.replace(old, place)
        raise


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Make a folder and those above it; what was made is removed again if the block fails."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for each in missing:
            with suppress(OSError):  # somebody else put a file there
                each.rmdir()
        raise


def write_half(folder: Path, region: str, half: Half) -> None:
    """`region.json` and `region.safetensors`."""
    from safetensors.numpy import save

    (folder / f"{region}.json").write_bytes(to_json(half.program))
    (folder / f"{region}.safetensors").write_bytes(save(dict(half.tensors)))


def checksums(root: Path, skip: str = MANIFEST) -> dict[str, str]:
    """sha256 of every file below `root`, by relative path; `root/skip` left out."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and path != root / skip)
    return {path.relative_to(root).as_posix(): file_digest(path) for path in files}


def write_server(folder: Path, name: str, backend: str, encrypted: bool, max_batch: int, halves: Mapping[str, Half]) -> str:
    """The server half, whole. Returns its digest."""
    folder.mkdir()
    for region, half in halves.items():
        write_half(folder, region, half)
    manifest = ServerManifest(FORMAT, name, backend, encrypted, max_batch, tuple(sorted(halves)), checksums(folder))
    data = to_json(asdict(manifest))
    (folder / MANIFEST).write_bytes(data)
    return digest(data)


def remove(folder: Path) -> None:
    """Delete an artifact. Raises `CompileError`, and deletes nothing, unless `folder` is one in every file."""
    if folder.is_symlink() or _manifest_files(folder) is None:
        raise CompileError(Diagnostic(f"{folder} is not an artifact: there is no {MANIFEST} of ours in it"))
    judge_target(folder)
    shutil.rmtree(folder)
