"""The server half of an artifact: a manifest of its own, and what stands in it. Nothing here knows the client's."""

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
    """What the server half says of itself."""

    format: int
    name: Text
    backend: Text
    encrypted: Truth
    max_batch: Batch
    regions: tuple[RegionName, ...]
    files: Files
    written_by: Text = __version__


def read_server(root: Path) -> tuple[ServerManifest, str, Path]:
    """The server half of an artifact, or a server half alone: manifest, digest and its folder."""
    folder = root / "server" if (root / "server" / MANIFEST).is_file() else root
    data = manifest_bytes(folder, root)
    return parse_manifest(ServerManifest, data, folder / MANIFEST), digest(data), folder
