"""Reads the files of an artifact (see `hecompile.artifact`). No file is trusted: sizes, checksums and formats are checked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import pydantic

from hecompile.artifact_tensors import mapped_tensors, tensors_of
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array, ClientHalf, ServerHalf
from hecompile.untrusted import difference, map_file, parse_json, read_file
from hecompile.version import __version__

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = [
    "FORMAT", "MANIFEST", "MANIFEST_BYTES", "Batch", "Checksum", "Files", "RegionName", "Text", "Truth", "checked", "digest",
    "file_digest", "manifest_bytes", "parse_manifest", "read_client_half", "read_server_half",
]  # fmt: skip

FORMAT = 7
FIRST_VERSION = "0.1.0"  # the version that wrote the formats before 5, which do not name it
MANIFEST = "manifest.json"
_NAME = "[A-Za-z0-9_]{1,64}"
_FILE = rf"^(report\.html|server/manifest\.json|client/{_NAME}\.onnx|((client|server)/)?{_NAME}\.(json|safetensors))$"
MANIFEST_BYTES = 1 << 24  # at most
_MOST_BYTES = {".json": 1 << 24, ".onnx": (1 << 31) - 1}  # of the files that are loaded
_SCALES_BYTES, _WEIGHTS_BYTES = 1 << 30, 1 << 34  # tensors of a client's half and of a server's

RegionName = Annotated[str, pydantic.StringConstraints(pattern=f"^{_NAME}$")]
FileName = Annotated[str, pydantic.StringConstraints(pattern=_FILE)]
Checksum = Annotated[str, pydantic.StringConstraints(pattern="^[0-9a-f]{64}$")]
Text = Annotated[str, pydantic.StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{0,400}$")]  # what may be printed
Batch = Annotated[int, pydantic.Field(strict=True, ge=1, le=256)]
Truth = Annotated[bool, pydantic.Field(strict=True)]
Files = Annotated[dict[FileName, Checksum], pydantic.Field(max_length=20000)]

_Kind = TypeVar("_Kind", bound="DataclassInstance")


def digest(data: Buffer) -> str:
    """Return the sha256 checksum of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 checksum of a file, in hexadecimal. The file may be large, and is not one that somebody else wrote."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def parse_manifest(kind: type[_Kind], data: bytes, path: Path) -> _Kind:
    """Return the manifest in a JSON document, checked field by field. Raises `ProtocolError` that names the first wrong field."""
    document = parse_json(data, str(path))
    version = document.get("format") if isinstance(document, dict) else None
    if version != FORMAT:
        raise ProtocolError(_other_format(document, version, path))
    try:
        manifest = pydantic.TypeAdapter(kind).validate_python(document)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ProtocolError(f"{path}: {'.'.join(map(str, first['loc']))[:200]}: {first['msg'][:200]}") from error
    wrong_field = difference(document, asdict(manifest))
    if wrong_field is not None:
        raise ProtocolError(f"{path}: {wrong_field or 'the document'} is unknown, missing, or of another type")
    return manifest


def _other_format(document: object, version: object, path: Path) -> str:
    """Return the message for a manifest of another format: which version wrote it, and how to get one that can be read."""
    known = isinstance(document, dict) and isinstance(version, int) and not isinstance(version, bool)
    written_by = str(document.get("written_by", FIRST_VERSION))[:20] if isinstance(document, dict) and known else "something else"
    newer = isinstance(version, int) and version > FORMAT
    way_out = "use a newer hecompile" if newer else "compile it again: hecompile compile MODEL -o FOLDER"
    return (
        f"{path}: artifact format {version!r:.20}, written by hecompile {written_by}; this is {__version__}, which reads format "
        f"{FORMAT}: {way_out}"
    )


def checked(root: Path, files: Mapping[str, str], name: str) -> bytes:
    """Return the bytes of a file of the artifact. Raises `ProtocolError` if it is not listed, no regular file, too long or
    changed."""
    path, most = _listed(root, files, name), _SCALES_BYTES if name.startswith("client/") else _WEIGHTS_BYTES
    data = read_file(path, _MOST_BYTES.get(path.suffix, most))
    _check_checksum(path, data, files[name])
    return data


def _listed(root: Path, files: Mapping[str, str], name: str) -> Path:
    """Return the path of a listed file. Raises `ProtocolError` if it is not listed, or its folder is a link."""
    if name not in files:
        raise ProtocolError(f"{root / name}: not listed in the manifest")
    if (root / name).parent.is_symlink() and (root / name).parent != root:
        raise ProtocolError(f"{(root / name).parent} is a link, and links are not followed")
    return root / name


def _check_checksum(path: Path, data: Buffer, expected: str) -> None:
    if digest(data) != expected:
        raise ProtocolError(f"{path}: changed since it was compiled (checksum)")


def manifest_bytes(folder: Path, root: Path) -> bytes:
    """Return the bytes of the manifest in `folder`. Raises `ProtocolError`, which names the artifact `root`, if there is none."""
    if not (folder / MANIFEST).exists():
        raise ProtocolError(f"{root}: no artifact here (no {MANIFEST})")
    return read_file(folder / MANIFEST, MANIFEST_BYTES)


def read_client_half(root: Path, files: Mapping[str, str], prefix: str) -> ClientHalf:
    """Read the two files of a region's client half. Raises `ProtocolError` if they are absent, changed or malformed."""
    return ClientHalf(*_read_half(root, files, prefix))


def read_server_half(root: Path, files: Mapping[str, str], prefix: str) -> ServerHalf:
    """Read the two files of a region's server half. The weights are mapped into memory, so that they are read when they are used.

    An artifact is always replaced as a whole, so a mapped file does not change.

    Raises:
        ProtocolError: if they are absent, changed or malformed.
    """
    name = f"{prefix}.safetensors"
    data = map_file(_listed(root, files, name), _WEIGHTS_BYTES)
    _check_checksum(root / name, data, files[name])
    return ServerHalf(_document(root, files, prefix), mapped_tensors(data, str(root / name)))


def _read_half(root: Path, files: Mapping[str, str], prefix: str) -> tuple[dict[str, object], dict[str, Array]]:
    tensors = checked(root, files, f"{prefix}.safetensors")
    return _document(root, files, prefix), tensors_of(tensors, str(root / f"{prefix}.safetensors"))


def _document(root: Path, files: Mapping[str, str], prefix: str) -> dict[str, object]:
    document = parse_json(checked(root, files, f"{prefix}.json"), str(root / f"{prefix}.json"))
    if not isinstance(document, dict):
        raise ProtocolError(f"{root / prefix}.json: not a JSON object")
    return document
