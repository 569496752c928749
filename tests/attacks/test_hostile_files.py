"""Files that somebody else wrote: manifests and headers out of order, and what is no regular file, are refused in words."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hecompile
from hecompile.errors import ProtocolError
from tests.attacks.hostile import change_manifest, put


@pytest.mark.promise("documents")
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda manifest: manifest.update(max_batch=0), "max_batch"),
        (lambda manifest: manifest.update(max_batch=2), "the manifest says 2"),
        (lambda manifest: manifest.update(max_batch=True), "max_batch"),
        (lambda manifest: manifest.update(max_batch="3"), "max_batch"),
        (lambda manifest: manifest.update(max_batch=10**12), "max_batch"),
        (lambda manifest: manifest.update(name="a\x1b[31mb"), "name"),
        (lambda manifest: manifest.update(encrypted=1), "encrypted"),
        (lambda manifest: manifest["inputs"][0].update(shape=["xB", 2, 4, 4]), "shape"),
        (lambda manifest: manifest["inputs"][0].update(shape=[-1, 2, 4, 4]), "shape"),
        (lambda manifest: manifest["inputs"][0].update(shape=["B"] * 60), "shape"),
        (lambda manifest: manifest["inputs"][0].update(dtype="object"), "dtype"),
        (lambda manifest: manifest["inputs"].append(manifest["inputs"][0]), "passed together"),
        (lambda manifest: manifest["files"].update({"../secret": "0" * 64}), "files"),
        (lambda manifest: manifest["files"].update({"/etc/passwd": "0" * 64}), "files"),
        (lambda manifest: manifest["files"].update({"client/a\0b.json": "0" * 64}), "files"),
        (lambda manifest: manifest["files"].update({"client/call_01.json": "0"}), "files"),
        (lambda manifest: manifest["plan"]["steps"][0].update(region="a\0b"), "region"),
        (lambda manifest: manifest["plan"]["steps"][0].update(region="../server/call_01"), "region"),
        (lambda manifest: manifest["plan"].update(steps=[]), "plan"),
        (lambda manifest: manifest["plan"]["steps"].append(manifest["plan"]["steps"][0]), "plan"),
    ],
)  # fmt: skip
def test_numbers_and_names_of_a_manifest_are_judged(artifact: Path, change: Callable[[dict[str, Any]], Any], reason: str) -> None:
    change_manifest(artifact, change)
    with pytest.raises(ProtocolError, match=reason):
        hecompile.load(artifact)


@pytest.mark.promise("documents")
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"[" * 100_000, "nest"),
        (b'{"format": 5, "format": 5}', "twice"),
        (b'{"format": NaN}', "no number"),
        (b'{"format": 1e999}', "too large"),
        (b"", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"5", "format"),
        (b"null", "format"),
        (b'{"format": [5]}', "format"),
    ],
)
def test_documents_that_are_none(artifact: Path, text: bytes, reason: str) -> None:
    (artifact / "manifest.json").write_bytes(text)
    with pytest.raises(ProtocolError, match=reason):
        hecompile.load(artifact)


@pytest.mark.promise("files")
@pytest.mark.parametrize("name", ["manifest.json", "client/client_00.onnx", "client/call_01.json", "client/call_01.safetensors"])
def test_only_regular_files_are_read(artifact: Path, tmp_path: Path, name: str) -> None:
    """A device without an end, a pipe that nobody writes to, and a link, even to the right bytes."""
    path = artifact / name
    path.rename(tmp_path / "moved")
    for make_it in (lambda: path.symlink_to("/dev/zero"), lambda: os.mkfifo(path), lambda: path.symlink_to(tmp_path / "moved")):
        make_it()
        with pytest.raises(ProtocolError, match=r"link|regular"):
            hecompile.load(artifact)
        path.unlink()
    path.mkdir()
    with pytest.raises(ProtocolError, match="regular"):
        hecompile.load(artifact)


@pytest.mark.promise("files")
def test_a_folder_that_is_a_link_is_not_followed(artifact: Path, tmp_path: Path) -> None:
    (artifact / "client").rename(tmp_path / "elsewhere")
    (artifact / "client").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ProtocolError, match="link"):
        hecompile.load(artifact)


@pytest.mark.promise("files")
def test_files_beyond_their_size_are_not_read(artifact: Path) -> None:
    """A file with a hole has a size and takes no room."""
    for name in ("client/call_01.json", "manifest.json"):
        with (artifact / name).open("r+b") as stream:
            stream.truncate(1 << 40)
        with pytest.raises(ProtocolError, match=rf"{name}.*bytes, at most"):
            hecompile.load(artifact)


@pytest.mark.promise("documents")
@pytest.mark.parametrize(
    "header",
    [
        b'{"a": 1, "a": 2}',
        b"[" * 5000,
        b'{"0.scales":{"dtype":"F64","shape":[1099511627776],"data_offsets":[0,8]}}',
        b"{}" + b" " * 100,
    ],
)
def test_headers_of_tensors_are_judged(artifact: Path, header: bytes) -> None:
    put(artifact, "client/call_01.safetensors", len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(ProtocolError):
        hecompile.load(artifact)
    put(artifact, "client/call_01.safetensors", (1 << 62).to_bytes(8, "little") + header)
    with pytest.raises(ProtocolError, match="its header has"):
        hecompile.load(artifact)
