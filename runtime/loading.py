"""Loading a compiled model: `hecompile.load`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from hecompile.runtime.client import EncryptedUNet
from hecompile.runtime.opened import opened
from hecompile.runtime.transports import AccessOptions, Transport

__all__ = ["load"]


def load(
    artifact: str | Path,
    server: str | Transport | None = None,
    *,
    policy: str = "strict",
    security_bits: int = 128,
    threads: int | None = None,
    public: Sequence[str] = (),
    backends: Sequence[str] = (),
    progress: bool | None = None,
    digest: str | None = None,
    cache_dir: str | Path | None = None,
    **access: Unpack[AccessOptions],
) -> EncryptedUNet:
    """Load a compiled model, and ask its server whether it serves the other half.

    Args:
        artifact: the folder, its manifest and client half alone, or the URL of such a folder.
        server: URL of the server, or a transport; None runs the server's half in this process, or asks the server that a folder
            of `save_pretrained` names, which is shown no token, certificate or header of the environment.
        policy: what the client insists on; an artifact that keeps less is refused.
        security_bits: the least that it accepts, by the client's own table.
        threads: of the client's own regions; all cores by default.
        public: names of inputs that the server may see besides `timestep` and `time_ids`. What the artifact calls public counts
            for nothing.
        backends: names of backends from elsewhere (`register_backend`) that may compute; an artifact cannot name them itself.
        progress: whether calls that last longer than a second show a bar; None: on terminals and in notebooks.
        digest: sha256 of `manifest.json`, without which nothing is loaded from a URL. Whoever compiled the artifact tells it.
        cache_dir: where that is kept; `~/.cache/hecompile` or what HECOMPILE_CACHE says by default.
        access: `verify=`, `cert=`, `token=` and `headers=` for a URL, see `AccessOptions`.

    Raises:
        CompileError: for a URL that is none or has no digest, certificates that cannot be used, or a token that would travel in
            clear.
        ProtocolError: if the artifact is missing, changed or weaker than the policy, or the server serves another one.
        ServerGoneError: if the server does not answer.
    """
    bundle, transport = opened(
        artifact, server, policy=policy, security_bits=security_bits, threads=threads, public=public, backends=backends,
        digest=digest, cache_dir=cache_dir, **access,
    )  # fmt: skip
    return EncryptedUNet(bundle, transport, progress)
