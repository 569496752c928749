"""The folder that compiling writes: a manifest, a client half and a server half, each file under a checksum.

    manifest.json   format, policy, parameters, plan, sha256 of every other file
    client/         region ONNX files; programs, scales and biases of the call regions
    server/         manifest.json of its own; programs and int8 weights. Works alone: copy it to the server
    report.html     the same for people

The digest that names an artifact on the wire is the sha256 of `server/manifest.json`. `artifact_writing` writes what is read here.
See `docs/artifact.md`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from hecompile import __version__
from hecompile.backends.base import Array, Half
from hecompile.errors import ProtocolError
from hecompile.ir.plan import Plan
from hecompile.ir.signature import Keyword, Signature

__all__ = [
    "FORMAT",
    "Input",
    "Manifest",
    "ServerManifest",
    "digest",
    "read_half",
    "read_manifest",
    "read_server",
]

FORMAT = 5
FIRST_VERSION = "0.1.0"  # wrote the formats before 5, which do not say who wrote them
MANIFEST = "manifest.json"
_NAME = r"^[A-Za-z0-9_]{1,64}$"
_SHA = r"^[0-9a-f]{64}$"

RegionName = pydantic.constr(pattern=_NAME)
Checksum = pydantic.constr(pattern=_SHA)


@dataclass(frozen=True)
class Input:
    """A tensor input: how the caller passes it, and what it must be."""

    name: str
    keyword: Keyword
    shape: tuple[int | str, ...]
    dtype: str
    public: bool
    per_run: bool = False  # a condition, which within a run is sent once


@dataclass(frozen=True)
class Manifest:
    """What the client needs to know before it runs anything."""

    format: int
    name: str
    policy: str
    backend: str
    encrypted: bool  # false: a simulation, nothing is hidden
    security_bits: int
    max_batch: int
    reveals: tuple[str, ...]
    inputs: tuple[Input, ...]
    plan: Plan
    server: str  # digest of the server half
    files: dict[str, str]
    config: dict[str, Any] = field(default_factory=dict)
    signature: Signature = field(default_factory=Signature)
    written_by: str = __version__  # of hecompile


@dataclass(frozen=True)
class ServerManifest:
    """What the server half says of itself."""

    format: int
    name: str
    backend: str
    encrypted: bool
    max_batch: int
    regions: tuple[str, ...]
    files: dict[str, str]
    written_by: str = __version__


_Kind = TypeVar("_Kind", Manifest, ServerManifest)


def digest(data: bytes) -> str:
    """sha256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _parse(kind: type[_Kind], data: bytes, path: Path) -> _Kind:
    try:
        document = json.loads(data)
    except ValueError as error:
        raise ProtocolError(f"{path}: not JSON: {error}") from error
    version = document.get("format") if isinstance(document, dict) else None
    if version != FORMAT:
        raise ProtocolError(_other_format(document, version, path))
    try:
        return pydantic.TypeAdapter(kind).validate_python(document)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise ProtocolError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _other_format(document: object, version: object, path: Path) -> str:
    """Why a manifest of another format is refused: who wrote it, and how to get one that is read."""
    known = isinstance(document, dict) and isinstance(version, int) and not isinstance(version, bool)
    written_by = str(document.get("written_by", FIRST_VERSION))[:20] if isinstance(document, dict) and known else "something else"
    newer = isinstance(version, int) and version > FORMAT
    way_out = "use a newer hecompile" if newer else "compile it again: hecompile compile MODEL -o FOLDER"
    return (
        f"{path}: artifact format {version!r:.20}, written by hecompile {written_by}; this is {__version__}, which reads format "
        f"{FORMAT}: {way_out}"
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ProtocolError(f"{path}: {error.strerror or error}") from error


def checked(root: Path, files: Mapping[str, str], name: str) -> bytes:
    """A file's bytes. Raises `ProtocolError` unless it is listed and its checksum is right."""
    if name not in files:
        raise ProtocolError(f"{root / name}: not listed in the manifest")
    data = _read(root / name)
    if digest(data) != files[name]:
        raise ProtocolError(f"{root / name}: changed since it was compiled (checksum)")
    return data


def read_manifest(root: Path) -> Manifest:
    """The manifest of an artifact, its files not yet read."""
    if not (root / MANIFEST).is_file():
        raise ProtocolError(f"{root}: no artifact here (no {MANIFEST})")
    manifest = _parse(Manifest, _read(root / MANIFEST), root / MANIFEST)
    for name in manifest.files:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ProtocolError(f"{root / MANIFEST}: file '{name}' lies outside the artifact")
    return manifest


def read_server(root: Path) -> tuple[ServerManifest, str, Path]:
    """The server half of an artifact, or a server half alone: manifest, digest and its folder."""
    folder = root / "server" if (root / "server" / MANIFEST).is_file() else root
    if not (folder / MANIFEST).is_file():
        raise ProtocolError(f"{root}: no artifact here (no {MANIFEST})")
    data = _read(folder / MANIFEST)
    return _parse(ServerManifest, data, folder / MANIFEST), digest(data), folder


def read_half(root: Path, files: Mapping[str, str], prefix: str) -> Half:
    """The two files of a region. Raises `ProtocolError` if they are absent, changed or malformed."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    program, tensors = checked(root, files, f"{prefix}.json"), checked(root, files, f"{prefix}.safetensors")
    try:
        arrays: dict[str, Array] = load(tensors)
        return Half(json.loads(program), arrays)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ProtocolError(f"{root / prefix}: {error}") from error
