"""A worker: it loads an artifact's server half, or one shard of it, and evaluates payloads.

It keeps nothing between payloads, so any worker may evaluate any of them, and again where another worker ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hecompile.artifact_files import checked, read_server_half
from hecompile.artifact_server import read_server
from hecompile.backends.region_server import RegionServer, RegionShard, ReplyJoin
from hecompile.backends.registry import backend_of
from hecompile.errors import CompileError, Diagnostic, HecompileError, ProtocolError
from hecompile.ir.halves import ServerHalf
from hecompile.untrusted import parse_json

__all__ = ["RegionDescription", "Replica", "WorkerDescription", "WorkerRefusal", "check_stateless"]


@dataclass(frozen=True)
class WorkerRefusal:
    """Why a worker has no reply, with the reason and status of a `ProtocolError`."""

    reason: str
    status: int


@dataclass(frozen=True)
class RegionDescription:
    """What the server must know of a region that workers evaluate: sizes of payloads in bytes, by batch, and how replies of shards
    are joined."""

    payload_bytes: tuple[int, ...]
    joining: ReplyJoin | None


@dataclass(frozen=True)
class WorkerDescription:
    """What a worker loaded: the artifact's digest, and its regions by name."""

    digest: str
    regions: dict[str, RegionDescription]


class Replica:
    """Evaluates requests to an artifact's regions, or to one shard of them.

    An artifact that cannot be loaded is reported by `describe`: if this raised, the worker would be started again and again.
    """

    def __init__(self, folder: str, index: int, count: int) -> None:
        """Load shard `index` of `count` of each region; with a count of 1, whole regions."""
        self._regions: dict[str, RegionServer] = {}
        self._digest, self._refused = "", ""
        try:
            self._load(Path(folder), index, count)
        except HecompileError as error:
            self._refused = str(error)

    def _load(self, folder: Path, index: int, count: int) -> None:
        manifest, self._digest, root = read_server(folder)
        for name in manifest.regions:
            half = read_server_half(root, manifest.files, name)
            scheme = backend_of(half)
            self._regions[name] = scheme.load_server(half) if count == 1 else scheme.load_shard(half, index, count)

    async def describe(self) -> WorkerDescription | WorkerRefusal:
        """Return what was loaded, or why nothing was."""
        if self._refused:
            return WorkerRefusal(self._refused, 503)
        regions = {
            name: RegionDescription(
                tuple(region.request_bytes(batch) for batch in range(1, region.max_batch + 1)),
                region.joining if isinstance(region, RegionShard) else None,
            )
            for name, region in self._regions.items()
        }
        return WorkerDescription(self._digest, regions)

    async def evaluate(self, region: str, payload: bytes, batch: int) -> bytes | WorkerRefusal:
        """Return a region's reply to a payload, or this shard's part of it. It runs in a thread, so that health checks are still
        answered."""
        try:
            return bytes(await asyncio.to_thread(self._regions[region].evaluate, payload, batch))
        except ProtocolError as error:
            return WorkerRefusal(str(error), error.status)


def check_stateless(folder: Path) -> tuple[str, str, bool]:
    """Return name and digest of an artifact whose requests several workers can share, and whether it encrypts.

    Raises:
        CompileError: if a backend's server stores anything for a client, such as evaluation keys.
        ProtocolError: if anything is missing, changed or malformed.
    """
    manifest, digest, root = read_server(folder)
    for name in manifest.regions:
        scheme = backend_of(ServerHalf(_document(root, manifest.files, name), {}))
        if not scheme.guarantee.stateless:
            raise CompileError(
                Diagnostic(
                    f"region '{name}' is of backend '{scheme.name}', whose servers may store something for a client, such as keys: "
                    "workers cannot share its requests",
                    help="serve it without --ray, or compile it with --backend bfv",
                )
            )
    return manifest.name, digest, manifest.encrypted


def _document(root: Path, files: Mapping[str, str], name: str) -> dict[str, object]:
    """Return a region's program, without its weights."""
    document = parse_json(checked(root, files, f"{name}.json"), str(root / f"{name}.json"))
    if not isinstance(document, dict):
        raise ProtocolError(f"{root / name}.json: not a JSON object")
    return document
