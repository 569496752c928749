"""Writing an artifact: all or nothing, and the same input gives the same bytes. `hecompile.artifact` says what is in it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from hecompile.artifact import FORMAT, MANIFEST, ServerManifest, digest, read_manifest
from hecompile.backends.base import Half
from hecompile.errors import CompileError, Diagnostic

__all__ = ["checksums", "judge_target", "remove", "to_json", "write_folder", "write_half", "write_server"]


def to_json(document: object) -> bytes:
    """One spelling per document."""
    return (json.dumps(document, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def judge_target(target: Path) -> None:
    """Whether an artifact can be written there, asked before the work.

    Raises:
        CompileError: if `target` exists and is not an artifact, or its folder cannot be written to.
    """
    if target.exists() and not (target.is_dir() and (not any(target.iterdir()) or (target / MANIFEST).is_file())):
        raise CompileError(Diagnostic(f"{target} exists and is not an artifact", help="choose another folder, or remove it"))
    above = target.absolute().parent
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise CompileError(Diagnostic(f"{target} cannot be written: {above} takes no new folder", help="choose another folder"))


def write_folder(target: Path, fill: Callable[[Path], None]) -> None:
    """Fill a folder next to `target`, then put it in its place at once; an artifact that was there is replaced.

    Raises:
        CompileError: if `target` exists and is not an artifact, or its folder cannot be made or written to.
    """
    judge_target(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompileError(f"{target.parent} cannot be made: {error.strerror}") from error
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        new = Path(scratch) / "new"
        new.mkdir()
        fill(new)
        if target.exists():
            os.replace(target, Path(scratch) / "old")
        os.replace(new, target)


def write_half(folder: Path, region: str, half: Half) -> None:
    """`region.json` and `region.safetensors`."""
    from safetensors.numpy import save

    (folder / f"{region}.json").write_bytes(to_json(half.program))
    (folder / f"{region}.safetensors").write_bytes(save(dict(half.tensors)))


def checksums(root: Path, skip: str = MANIFEST) -> dict[str, str]:
    """sha256 of every file below `root`, by relative path; `root/skip` left out."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and path != root / skip)
    return {path.relative_to(root).as_posix(): digest(path.read_bytes()) for path in files}


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
    """Delete an artifact. Raises `ProtocolError` if the folder is none."""
    read_manifest(folder)
    shutil.rmtree(folder)
