"""The server's half of an artifact, loaded: from a request's bytes to a reply's, without any network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hecompile.artifact import read_half, read_server
from hecompile.backends.base import RegionServer
from hecompile.backends.registry import backend_of
from hecompile.errors import ProtocolError
from hecompile.runtime.wire import HEADER_LIMIT, unpack_request

__all__ = ["Service", "load_service"]


@dataclass(frozen=True)
class Service:
    """Regions by name; stateless."""

    name: str
    digest: str
    encrypted: bool
    regions: Mapping[str, RegionServer]

    @cached_property
    def body_limit(self) -> int:
        """No well-formed request is longer than this. (A larger batch may need fewer bytes, where it packs better.)"""
        return HEADER_LIMIT + max(
            region.request_bytes(batch) for region in self.regions.values() for batch in range(1, region.max_batch + 1)
        )

    def answer(self, digest: str, region: str, body: bytes) -> bytes:
        """The reply to a request. Raises `ProtocolError` with a fitting status for anything malformed."""
        if digest != self.digest:
            raise ProtocolError(f"this server serves artifact {self.digest[:12]}, not {digest[:12]}", status=404)
        if region not in self.regions:
            raise ProtocolError(f"there is no region '{region[:64]}'", status=404)
        if len(body) > self.body_limit:
            raise ProtocolError(f"a request may have {self.body_limit} bytes", status=413)
        batch, payload = unpack_request(body)
        return self.regions[region].evaluate(payload, batch)


def load_service(folder: Path) -> Service:
    """Load an artifact, or a server half alone, checking every file.

    Raises:
        ProtocolError: if anything is missing, changed or malformed.
        UnsafeMachineError: if this CPU cannot multiply exactly.
    """
    manifest, found, root = read_server(folder)
    halves = {name: read_half(root, manifest.files, name) for name in manifest.regions}
    regions = {name: backend_of(half).load_server(half) for name, half in halves.items()}
    if not regions:
        raise ProtocolError(f"{folder}: the server has nothing to do")
    return Service(manifest.name, found, manifest.encrypted, regions)
