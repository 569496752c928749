"""Reads the manifest of an artifact's server half. It does not need the client half."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hecompile.artifact_files import (
    MANIFEST,
    Batch,
    Files,
    RegionName,
    Text,
    Truth,
    digest,
    manifest_bytes,
    parse_manifest,
)
from hecompile.version import __version__

__all__ = ["ServerManifest", "read_server"]


@dataclass(frozen=True)
class ServerManifest:
    """The manifest of a server half: its backend, its largest batch, its regions and the checksums of its files."""

    format: int
    name: Text
    backend: Text
    encrypted: Truth
    max_batch: Batch
    regions: tuple[RegionName, ...]
    files: Files
    written_by: Text = __version__


def read_server(root: Path) -> tuple[ServerManifest, str, Path]:
    """Find the server half in `root`, which is an artifact or the server half itself.

    Returns the manifest, the digest that names the artifact on the wire, and the folder of the server half.

    Raises:
        ProtocolError: if the manifest is absent or malformed.
    """
    folder = root / "server" if (root / "server" / MANIFEST).is_file() else root
    data = manifest_bytes(folder, root)
    return parse_manifest(ServerManifest, data, folder / MANIFEST), digest(data), folder
