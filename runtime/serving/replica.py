"""What one worker of several does: it loads an artifact's server half, or one shard of it, and evaluates payloads.

It is the same whoever starts it. Nothing is kept between payloads, so that any worker may evaluate any of them, and once more
where another one ended.
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

__all__ = ["Described", "DescribedRegion", "Refused", "Replica", "judge_stateless"]


@dataclass(frozen=True)
class Refused:
    """Why there is no reply, as `ProtocolError` says it."""

    reason: str
    status: int


@dataclass(frozen=True)
class DescribedRegion:
    """What whoever hands out the work must know of a region: the bytes of payloads by batch, and how shards' replies are joined."""

    payload_bytes: tuple[int, ...]
    joining: ReplyJoin | None


@dataclass(frozen=True)
class Described:
    """What a worker says of what it loaded."""

    digest: str
    regions: dict[str, DescribedRegion]


class Replica:
    """Evaluates some of the work of an artifact's regions.

    Failing to load is told by `describe` instead of raised: whoever starts workers would start them again and again.
    """

    def __init__(self, folder: str, index: int, count: int) -> None:
        """`index` of `count` shards of each region; of one, the whole region."""
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
            found = backend_of(half)
            self._regions[name] = found.load_server(half) if count == 1 else found.load_shard(half, index, count)

    async def describe(self) -> Described | Refused:
        """What was loaded, or why nothing was."""
        if self._refused:
            return Refused(self._refused, 503)
        regions = {
            name: DescribedRegion(
                tuple(region.request_bytes(batch) for batch in range(1, region.max_batch + 1)),
                region.joining if isinstance(region, RegionShard) else None,
            )
            for name, region in self._regions.items()
        }
        return Described(self._digest, regions)

    async def evaluate(self, region: str, payload: bytes, batch: int) -> bytes | Refused:
        """A region's reply to a payload, or this shard's part of it. In a thread, so that questions for its health are answered."""
        try:
            return bytes(await asyncio.to_thread(self._regions[region].evaluate, payload, batch))
        except ProtocolError as error:
            return Refused(str(error), error.status)


def judge_stateless(folder: Path) -> tuple[str, str, bool]:
    """Name and digest of an artifact that any of several workers may answer for, and whether it encrypts.

    Raises:
        CompileError: if a backend's server keeps anything of a client's, such as evaluation keys.
        ProtocolError: if anything is missing, changed or malformed.
    """
    manifest, digest, root = read_server(folder)
    for name in manifest.regions:
        found = backend_of(ServerHalf(_document(root, manifest.files, name), {}))
        if not found.guarantee.stateless:
            raise CompileError(
                Diagnostic(
                    f"region '{name}' is of backend '{found.name}', which does not promise that its servers keep nothing of a "
                    "client's, such as keys: workers cannot share its requests",
                    help="serve it without --ray, or compile it with --backend bfv",
                )
            )
    return manifest.name, digest, manifest.encrypted


def _document(root: Path, files: Mapping[str, str], name: str) -> dict[str, object]:
    """A region's program, without its weights."""
    document = parse_json(checked(root, files, f"{name}.json"), str(root / f"{name}.json"))
    if not isinstance(document, dict):
        raise ProtocolError(f"{root / name}.json: no document")
    return document
