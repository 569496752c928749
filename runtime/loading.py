"""Loading a compiled model: `hecompile.load`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from hecompile.runtime.client import EncryptedUNet
from hecompile.runtime.opening import open_artifact
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
    """Load a compiled model, and check with its server that it serves the other half.

    Args:
        artifact: the artifact's folder, of which the manifest and the client half are enough, or the URL of such a folder.
        server: URL of the server, or a transport. None runs the server's half in this process, or uses the server that a folder
            of `save_pretrained` names; that server gets no token, certificate or header from the environment.
        policy: the policy that the client insists on; an artifact that promises less is refused.
        security_bits: the least security that the client accepts, by its own table of lattice parameters.
        threads: number of threads for the client's own regions; all cores by default.
        public: names of inputs that the server may see besides `timestep` and `time_ids`. What the artifact
            itself calls public is ignored.
        backends: names of backends of other packages (`register_backend`) that may compute; an artifact cannot allow them.
        progress: whether calls that last longer than a second show a bar; None shows it on terminals and in notebooks.
        digest: sha256 of `manifest.json` in hexadecimal, needed for a URL. Ask whoever compiled the artifact.
        cache_dir: where downloads are kept; HECOMPILE_CACHE or `~/.cache/hecompile` by default.
        access: `verify=`, `cert=`, `token=` and `headers=` for a URL, see `AccessOptions`.

    Raises:
        CompileError: for a malformed URL or one without a digest, certificates that cannot be used, or a token that would be sent
            without encryption.
        ProtocolError: if the artifact is missing, changed or weaker than the policy, or the server serves another one.
        ServerGoneError: if the server does not answer.
    """
    bundle, transport = open_artifact(
        artifact, server, policy=policy, security_bits=security_bits, threads=threads, public=public, backends=backends,
        digest=digest, cache_dir=cache_dir, **access,
    )  # fmt: skip
    return EncryptedUNet(bundle, transport, progress)
