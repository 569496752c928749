"""Loads the compiled model that draws, gives a pipeline its noise, and reports what drawing cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hecompile.errors import CompileError, Diagnostic, needing

if TYPE_CHECKING:
    import torch

    from hecompile.runtime.client import EncryptedUNet
    from hecompile.runtime.transports import AccessOptions, Transport

__all__ = ["figures", "noise_options", "opened_model"]


@contextmanager
def opened_model(
    artifact: Path, server: str | Transport | None, policy: str, seed: int | None, simulate: bool, access: AccessOptions | None
) -> Iterator[EncryptedUNet]:
    """Give the model of an artifact, and close it at the end even if drawing fails, since a server stores the keys of a session.

    Args:
        seed: the seed that the user gave; None for no seed.
        simulate: encrypts nothing: regions are computed here with the noise that their library models.
        access: certificates and credentials, as for `load`.

    Raises:
        CompileError: for a simulation with a server, or a seed for an artifact that reveals values.
        ProtocolError: if the artifact is damaged, or the server refuses.
    """
    if simulate and any(value is not None for value in (access or {}).values()):
        raise CompileError("a simulation uses no server: certificates, tokens and headers have no effect")
    if simulate and server is not None:
        raise CompileError(Diagnostic("a simulation uses no server", help="leave --server out: everything is computed here"))
    with needing("sampling", "client"):
        from hecompile.runtime.loading import load
        from hecompile.runtime.simulation import load_simulation

    with closing(load_simulation(artifact) if simulate else load(artifact, server, policy=policy, **(access or {}))) as unet:
        if unet.reveals and seed is not None:
            raise CompileError(
                Diagnostic(
                    f"edge noise -> sample: seed {seed} could be found from the values that this artifact reveals",
                    help="leave --seed out: the noise then comes from a secret seed of at least 128 bits",
                )
            )
        yield unet


def noise_options(unet: EncryptedUNet, pictures: int, seed: int | None) -> dict[str, Any]:
    """Return the keyword arguments by which a pipeline gets the noise of its pictures.

    They are `generator`, one per picture with seeds that count up from `seed` (0 by default); or, where the artifact reveals
    values, `latents` from a secret seed.
    """
    import torch

    if unet.reveals:
        return {"latents": unet.initial_noise(pictures)}
    generators: list[torch.Generator] = [torch.Generator().manual_seed((seed or 0) + place) for place in range(pictures)]
    return {"generator": generators}


def figures(unet: EncryptedUNet, output: Path, simulate: bool, wall_s: float, **settings: object) -> dict[str, object]:
    """Return what was drawn and what it cost, for people and `--json`."""
    meter = unet.meter
    return {
        "output": str(output), "simulation": simulate or not unet.encrypted, **settings, "wall_s": wall_s,
        "client_s": meter.client_s, "requests": meter.requests, "bytes_up": meter.bytes_up, "bytes_down": meter.bytes_down,
        "out_of_range": dict(meter.out_of_range),
    }  # fmt: skip
