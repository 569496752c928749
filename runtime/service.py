"""The server's half of an artifact, loaded: from a request's bytes to a reply's, without any network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from hecompile.artifact_files import read_server_half
from hecompile.artifact_server import read_server
from hecompile.backends.region_server import RegionServer
from hecompile.backends.registry import backend_of
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.runtime.greeting import Greeting
from hecompile.runtime.sessions import Reservation, SessionStore
from hecompile.runtime.wire import FORMAT, HEADER_LIMIT, key_limit, unpack_keys, unpack_request
from hecompile.version import __version__

__all__ = ["Service", "judge_service", "load_service"]


@dataclass(frozen=True)
class Service:
    """Regions by name. Nothing is kept between requests but the evaluation keys of open sessions."""

    name: str
    digest: str
    encrypted: bool
    regions: Mapping[str, RegionServer]
    sessions: SessionStore = field(default_factory=SessionStore, repr=False)

    @property
    def greeting(self) -> Greeting:
        """What is told to clients before their first request."""
        return Greeting(self.digest, self.name, __version__, FORMAT, self.encrypted)

    @cached_property
    def body_limit(self) -> int:
        """No well-formed request is longer than this. (A larger batch may need fewer bytes, where it packs better.)"""
        return HEADER_LIMIT + max(
            region.request_bytes(batch) for region in self.regions.values() for batch in range(1, region.max_batch + 1)
        )

    @property
    def key_sizes(self) -> dict[str, int]:
        """The evaluation keys of a session: most bytes by name; empty if no region needs any."""
        return {name: size for region in self.regions.values() for name, size in region.key_sizes().items()}

    @property
    def key_limit(self) -> int:
        """No well-formed upload of keys is longer than this."""
        return key_limit(self.key_sizes)

    @property
    def session_bytes(self) -> int:
        """Memory that the keys of a session take once they are loaded."""
        owners = {name: region for region in self.regions.values() for name in region.key_sizes()}
        return sum(region.held_bytes(name) for name, region in owners.items())

    def reserve_session(self, digest: str, owner: str = "") -> Reservation:
        """Hold room for the keys of a session while they are on their way, as they come and as they are loaded.

        Raises:
            ProtocolError: if this artifact has no keys, is another one, or there is no room.
        """
        self._judge_digest(digest)
        if not self.key_sizes:
            raise ProtocolError("this artifact needs no session: it has no evaluation keys", status=404)
        return self.sessions.reserve(self.key_limit + self.session_bytes, owner)

    def open_session(self, digest: str, body: bytes | bytearray, reservation: Reservation | None = None) -> str:
        """Keep the keys of an upload; the identifier of their session.

        Raises:
            ProtocolError: if the keys are not exactly those that the artifact declares, malformed, or there is no room.
        """
        with reservation or self.reserve_session(digest) as held:
            self._judge_digest(digest)
            if len(body) > self.key_limit:
                raise ProtocolError(f"keys of this artifact have at most {self.key_limit} bytes", status=413)
            found, loaded = unpack_keys(body, self.key_sizes), dict[str, object]()
            for region in self.regions.values():
                for name in region.key_sizes():
                    if name not in loaded:
                        loaded[name] = region.load_key(name, found[name])
            return self.sessions.open(loaded, self.session_bytes, held)

    def close_session(self, digest: str, identifier: str) -> None:
        """Forget the keys of a session."""
        self._judge_digest(digest)
        self.sessions.close(identifier)

    def _judge_digest(self, digest: str) -> None:
        if digest != self.digest:
            raise ProtocolError(f"this server serves artifact {self.digest[:12]}, not {digest[:12]}", status=404)

    def cancel(self, region: str) -> None:
        """Give up what a region is evaluating."""
        if region in self.regions:
            self.regions[region].cancel()

    def judge(self, digest: str, region: str) -> None:
        """Raise `ProtocolError` (404) unless this artifact is served, and has such a region."""
        self._judge_digest(digest)
        if region not in self.regions:
            raise ProtocolError(f"there is no region '{region[:64]}'", status=404)

    @contextmanager
    def expect(self, region: str, body: bytes | bytearray) -> Iterator[None]:
        """Judge a request that is answered later. Within the block its session does not end.

        Raises:
            ProtocolError: as `answer` does.
        """
        _, identifier, _ = unpack_request(body)
        if not self.regions[region].key_sizes():
            yield
            return
        with self.sessions.use(identifier):
            yield

    def answer(self, digest: str, region: str, body: bytes | bytearray) -> Buffer:
        """The reply to a request. Raises `ProtocolError` with a fitting status for anything malformed."""
        self.judge(digest, region)
        if len(body) > self.body_limit:
            raise ProtocolError(f"a request may have {self.body_limit} bytes", status=413)
        batch, identifier, payload = unpack_request(body)
        if not self.regions[region].key_sizes():
            return self.regions[region].evaluate(payload, batch)
        with self.sessions.use(identifier) as session:  # the client tells from the status whether to open a new one
            return self.regions[region].evaluate(payload, batch, session)


def judge_service(folder: Path) -> None:
    """Load the regions of an artifact's server half one after the other, and keep none. Raises as `load_service` does."""
    manifest, _, root = read_server(folder)
    for name in manifest.regions:
        half = read_server_half(root, manifest.files, name)
        backend_of(half).load_server(half)


def load_service(folder: Path, device: str | None = None) -> Service:
    """Load an artifact, or a server half alone, checking every file.

    Args:
        device: that computes the products ("cuda"), in place of the processor.

    Raises:
        ProtocolError: if anything is missing, changed or malformed.
        UnsafeMachineError: if this CPU cannot multiply exactly.
    """
    manifest, found, root = read_server(folder)
    halves = {name: read_server_half(root, manifest.files, name) for name in manifest.regions}
    regions = {name: backend_of(half).load_server(half) for name, half in halves.items()}
    if device is not None:
        for region in regions.values():
            region.use_device(device)
    if not regions:
        raise ProtocolError(f"{folder}: the server has nothing to do")
    return Service(manifest.name, found, manifest.encrypted, regions)
