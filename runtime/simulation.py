"""Loads a compiled model so that its encrypted regions are simulated: for quick tests, with nothing encrypted and no server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hecompile.artifact_files import read_client_half, read_server_half
from hecompile.artifact_server import read_server
from hecompile.backends.registry import backend_of
from hecompile.buffers import Buffer
from hecompile.errors import ProtocolError
from hecompile.runtime.bundle import load_bundle
from hecompile.runtime.results import check_structure
from hecompile.runtime.transports import Transport

if TYPE_CHECKING:
    from hecompile.runtime.client import EncryptedUNet

__all__ = ["NoServer", "load_simulation"]


class NoServer(Transport):
    """The transport of a simulation, which never sends anything."""

    def send(self, digest: str, region: str, body: Sequence[Buffer], reply: Buffer) -> None:
        return None

    def open_session(self, digest: str, body: Sequence[Buffer]) -> str:
        raise ProtocolError("a simulation has no sessions")

    def close_session(self, digest: str, identifier: str) -> None:
        raise ProtocolError("a simulation has no sessions")

    def close(self) -> None:
        return None


def load_simulation(artifact: str | Path) -> EncryptedUNet:
    """Load a compiled model whose encrypted regions are simulated in this process, decryption errors included. Nothing is
    encrypted.

    Raises:
        ProtocolError: if either half is missing or changed. The circuits are in the server's half.
        CompileError: for regions of a backend that has no simulation.
    """
    from hecompile.runtime.client import EncryptedUNet

    folder = Path(artifact)
    bundle = load_bundle(folder, "simulation")
    check_structure(bundle.manifest.signature.results, len(bundle.manifest.plan.outputs))
    server, _, root = read_server(folder)
    calls = {}
    for region in bundle.calls:
        client_half = read_client_half(folder, bundle.manifest.files, f"client/{region}")
        calls[region] = backend_of(client_half).simulation(client_half, read_server_half(root, server.files, region))
    return EncryptedUNet(replace(bundle, calls=calls), NoServer())
