"""The compiled model that draws, its noise, and what drawing cost."""

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
    """The model of an artifact, closed at the end also where drawing fails: a server keeps the keys of a session.

    Args:
        seed: what the user gave; None if nothing.
        simulate: encrypts nothing: regions are computed here with the noise that their library models.
        access: that of `load`.

    Raises:
        CompileError: for a simulation that asks a server, or a seed for an artifact that reveals anything.
        ProtocolError: if the artifact or the server is not in order.
    """
    if simulate and any(value is not None for value in (access or {}).values()):
        raise CompileError("a simulation asks no server: certificates, tokens and headers mean nothing")
    if simulate and server is not None:
        raise CompileError(Diagnostic("a simulation that asks a server", help="leave --server away: everything is computed here"))
    with needing("sampling", "client"):
        from hecompile.runtime.loading import load
        from hecompile.runtime.simulation import load_simulation

    with closing(load_simulation(artifact) if simulate else load(artifact, server, policy=policy, **(access or {}))) as unet:
        if unet.reveals and seed is not None:
            raise CompileError(
                Diagnostic(
                    f"edge noise -> sample: seed {seed} for an artifact that reveals: what it shows gives that away",
                    help="leave --seed away: the noise then comes from 128 bits that nobody knows",
                )
            )
        yield unet


def noise_options(unet: EncryptedUNet, pictures: int, seed: int | None) -> dict[str, Any]:
    """How a pipeline is told the noise of so many pictures: `generator`, one a picture, whose seeds count up from `seed` (0);
    `latents` of unknown seed where the artifact reveals anything."""
    import torch

    if unet.reveals:
        return {"latents": unet.initial_noise(pictures)}
    generators: list[torch.Generator] = [torch.Generator().manual_seed((seed or 0) + place) for place in range(pictures)]
    return {"generator": generators}


def figures(unet: EncryptedUNet, output: Path, simulate: bool, wall_s: float, **chosen: object) -> dict[str, object]:
    """What was drawn and what it cost, for people and `--json`."""
    meter = unet.meter
    return {
        "output": str(output), "simulation": simulate or not unet.encrypted, **chosen, "wall_s": wall_s,
        "client_s": meter.client_s, "requests": meter.requests, "bytes_up": meter.bytes_up, "bytes_down": meter.bytes_down,
        "excursions": dict(meter.excursions),
    }  # fmt: skip
