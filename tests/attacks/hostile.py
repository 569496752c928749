"""What a hostile compiler does: files of an artifact changed, and every checksum put right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hecompile.artifact_files import digest
from hecompile.artifact_writing import to_json

__all__ = ["change_manifest", "change_program", "put"]


def change_manifest(artifact: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest in place."""
    manifest = json.loads((artifact / "manifest.json").read_text())
    change(manifest)
    (artifact / "manifest.json").write_bytes(to_json(manifest))


def put(artifact: Path, name: str, data: bytes) -> None:
    """Write a file of the client's half under a right checksum."""
    (artifact / name).write_bytes(data)
    change_manifest(artifact, lambda manifest: manifest["files"].update({name: digest(data)}))


def change_program(artifact: Path, region: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a region's document in place."""
    program = json.loads((artifact / "client" / f"{region}.json").read_text())
    change(program)
    put(artifact, f"client/{region}.json", to_json(program))
