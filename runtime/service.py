"""Loads the server's half of an artifact and turns the bytes of a request into the bytes of its reply, without any network."""

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

__all__ = ["Service", "check_service", "load_service"]


@dataclass(frozen=True)
class Service:
    """The server's regions by name. Nothing is kept between requests except the evaluation keys of open sessions."""

    name: str
    digest: str
    encrypted: bool
    regions: Mapping[str, RegionServer]
    sessions: SessionStore = field(default_factory=SessionStore, repr=False)

    @property
    def greeting(self) -> Greeting:
        """What the server tells clients before their first request."""
        return Greeting(self.digest, self.name, __version__, FORMAT, self.encrypted)

    @cached_property
    def body_limit(self) -> int:
        """The largest number of bytes of a well-formed request. A larger batch can need fewer bytes, so all batch sizes are
        compared."""
        return HEADER_LIMIT + max(
            region.request_bytes(batch) for region in self.regions.values() for batch in range(1, region.max_batch + 1)
        )

    @property
    def key_sizes(self) -> dict[str, int]:
        """The largest size in bytes of every evaluation key of a session, by name; empty if no region needs keys."""
        return {name: size for region in self.regions.values() for name, size in region.key_sizes().items()}

    @property
    def key_limit(self) -> int:
        """The largest number of bytes of a well-formed upload of keys."""
        return key_limit(self.key_sizes)

    @property
    def session_bytes(self) -> int:
        """Bytes of memory that the keys of a session occupy once they are loaded."""
        holders = {name: region for region in self.regions.values() for name in region.key_sizes()}
        return sum(region.held_bytes(name) for name, region in holders.items())

    def reserve_session(self, digest: str, client_id: str = "") -> Reservation:
        """Reserve memory for the keys of a session, both as they arrive and as they are loaded.

        Raises:
            ProtocolError: if this artifact has no keys, another artifact is meant, or there is not enough memory.
        """
        self._check_digest(digest)
        if not self.key_sizes:
            raise ProtocolError("this artifact needs no session: it has no evaluation keys", status=404)
        return self.sessions.reserve(self.key_limit + self.session_bytes, client_id)

    def open_session(self, digest: str, body: bytes | bytearray, reservation: Reservation | None = None) -> str:
        """Load the keys of an upload and return the identifier of their new session.

        Raises:
            ProtocolError: if the keys are not exactly those that the artifact declares, are malformed, or there is not enough
                memory.
        """
        with reservation or self.reserve_session(digest) as reserved:
            self._check_digest(digest)
            if len(body) > self.key_limit:
                raise ProtocolError(f"keys of this artifact have at most {self.key_limit} bytes", status=413)
            received, loaded = unpack_keys(body, self.key_sizes), dict[str, object]()
            for region in self.regions.values():
                for name in region.key_sizes():
                    if name not in loaded:
                        loaded[name] = region.load_key(name, received[name])
            return self.sessions.open(loaded, self.session_bytes, reserved)

    def close_session(self, digest: str, identifier: str) -> None:
        """Forget the keys of a session."""
        self._check_digest(digest)
        self.sessions.close(identifier)

    def _check_digest(self, digest: str) -> None:
        """Raise `ProtocolError` (404) unless this is the artifact that is served."""
        if digest != self.digest:
            raise ProtocolError(f"this server serves artifact {self.digest[:12]}, not {digest[:12]}", status=404)

    def cancel(self, region: str) -> None:
        """Stop the evaluation of a region that is under way."""
        if region in self.regions:
            self.regions[region].cancel()

    def check_request(self, digest: str, region: str) -> None:
        """Raise `ProtocolError` (404) unless this artifact is served and has such a region."""
        self._check_digest(digest)
        if region not in self.regions:
            raise ProtocolError(f"there is no region '{region[:64]}'", status=404)

    @contextmanager
    def expect(self, region: str, body: bytes | bytearray) -> Iterator[None]:
        """Check a request that will be answered later. Within the block its session does not expire.

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
        """Return the reply to a request. Raises `ProtocolError` with a fitting HTTP status for anything malformed."""
        self.check_request(digest, region)
        if len(body) > self.body_limit:
            raise ProtocolError(f"a request may have {self.body_limit} bytes", status=413)
        batch, identifier, payload = unpack_request(body)
        if not self.regions[region].key_sizes():
            return self.regions[region].evaluate(payload, batch)
        with self.sessions.use(identifier) as session:  # the status tells the client whether to open a new one
            return self.regions[region].evaluate(payload, batch, session)


def check_service(folder: Path) -> None:
    """Check that every region of an artifact's server half can be loaded, one at a time. Raises as `load_service` does."""
    manifest, _, root = read_server(folder)
    for name in manifest.regions:
        half = read_server_half(root, manifest.files, name)
        backend_of(half).load_server(half)


def load_service(folder: Path, device: str | None = None) -> Service:
    """Load an artifact, or its server half alone, and check every file.

    Args:
        device: the device that computes the products in place of the processor, such as "cuda".

    Raises:
        ProtocolError: if anything is missing, changed or malformed.
        UnsafeMachineError: if this processor does not multiply integers exactly.
    """
    manifest, digest, root = read_server(folder)
    halves = {name: read_server_half(root, manifest.files, name) for name in manifest.regions}
    regions = {name: backend_of(half).load_server(half) for name, half in halves.items()}
    if device is not None:
        for region in regions.values():
            region.use_device(device)
    if not regions:
        raise ProtocolError(f"{folder}: the server's half has no regions")
    return Service(manifest.name, digest, manifest.encrypted, regions)
