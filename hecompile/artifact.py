"""The folder that compiling writes: a manifest, a client half and a server half. The manifest has a checksum for every file.

    manifest.json   format, policy, parameters, plan, sha256 of every other file
    client/         region ONNX files; programs, scales and biases of the call regions
    server/         a manifest.json of its own; programs and int8 weights. A server needs no other files
    modules.json    which module of the network each region's work came from, for people alone
    report.html     a page about the artifact, to be read by people

The digest that names an artifact on the wire is the sha256 of `server/manifest.json`. `artifact_files` reads the files of both
halves, `artifact_server` the server half's manifest, and `artifact_writing` writes what is read. See `docs/artifact.md`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pydantic

from hecompile.artifact_files import (
    MANIFEST,
    Batch,
    Checksum,
    Files,
    Text,
    Truth,
    manifest_bytes,
    parse_manifest,
)
from hecompile.ir.plan import Plan
from hecompile.ir.signature import Keyword, Signature
from hecompile.version import __version__

__all__ = ["Input", "Manifest", "read_manifest"]

Bits = Annotated[int, pydantic.Field(strict=True, ge=0, le=1024)]
Dimension = (
    Annotated[int, pydantic.Field(strict=True, ge=1, le=1 << 24)]
    | Annotated[str, pydantic.StringConstraints(pattern="^([1-9][0-9]{0,5})?B$")]
)
DtypeName = Annotated[str, pydantic.StringConstraints(pattern="^(float16|float32|float64|int64|int32|bool)$")]


@dataclass(frozen=True)
class Input:
    """A tensor input of the model: how the caller passes it, its shape and its dtype."""

    name: Text
    keyword: Keyword
    shape: Annotated[tuple[Dimension, ...], pydantic.Field(max_length=8)]
    dtype: DtypeName
    public: Truth
    per_run: Truth = False  # a condition, which is the same in every call of a sampling run


@dataclass(frozen=True)
class Manifest:
    """The manifest of an artifact: all that the client must know before it reads another file."""

    format: int
    name: Text
    policy: Text
    backend: Text
    encrypted: Truth  # False for a simulation, which hides nothing
    security_bits: Bits
    max_batch: Batch
    reveals: tuple[Text, ...]
    inputs: tuple[Input, ...]
    plan: Plan
    server: Checksum  # of the server half's manifest
    files: Files
    config: dict[str, Any] = field(default_factory=dict)
    signature: Signature = field(default_factory=Signature)
    written_by: Text = __version__  # of hecompile


def read_manifest(root: Path) -> Manifest:
    """Read the manifest of an artifact, and no other file. Raises `ProtocolError` if it is absent or malformed."""
    return parse_manifest(Manifest, manifest_bytes(root, root), root / MANIFEST)
