"""A loaded artifact whose requests are kept, so that the page can show what the server got."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hecompile.artifact import read_manifest
from hecompile.buffers import Buffer
from hecompile.demo.other_policies import View, channels_view
from hecompile.demo.pictures import as_address
from hecompile.demo.wishes import PolicyName
from hecompile.runtime.revealed import first_revealing, half_of, revealed_channels
from hecompile.runtime.transports.access import access_of
from hecompile.sampling.wiretap import Wiretap, words_picture

if TYPE_CHECKING:
    from hecompile.ir.halves import ClientHalf
    from hecompile.runtime.client import EncryptedUNet

__all__ = ["Tap", "TappedModel", "open_tapped"]

RETRY_S = 3.0  # a server that does not answer within that has ended
SIDE = 32  # of the picture of a request, in pixels


class Tap(Wiretap):
    """Keeps, besides the last request, the last one to each of some regions."""

    def __init__(self, url: str, regions: Sequence[str]) -> None:
        super().__init__(url, retry_s=RETRY_S, access=access_of({}))  # tokens and certificates of the environment
        self.kept = dict.fromkeys(regions, b"")

    def send(self, digest: str, region: str, body: Sequence[Buffer], reply: Buffer) -> None:
        super().send(digest, region, body, reply)
        if region in self.kept:
            self.kept[region] = self.request


@dataclass(frozen=True, eq=False, repr=False)
class TappedModel:
    """A loaded artifact. `latent` is the region that reads the latent, `shown` the first that reveals anything, if one does."""

    unet: EncryptedUNet
    tap: Tap
    latent: str
    shown: str
    half: ClientHalf | None

    def words(self) -> str:
        """The request that carried a step's latent, as a picture's address."""
        return as_address(words_picture(self.tap.kept[self.latent], (SIDE, SIDE)))

    def channels(self) -> View | None:
        """What the server really got in the clear at the last step; None where nothing is revealed."""
        return None if self.half is None else channels_view(revealed_channels(self.half, self.tap.kept[self.shown]))


def open_tapped(artifact: Path, url: str, policy: PolicyName) -> TappedModel:
    """The client of an artifact, connected to its server.

    Raises:
        ProtocolError, ServerGoneError: as `hecompile.load`.
    """
    from hecompile.runtime.loading import load

    manifest = read_manifest(artifact)
    shown = first_revealing(artifact, manifest)
    latent = next(step.region for step in manifest.plan.steps if step.kind == "call" and "sample" in step.inputs)
    tap = Tap(url, [latent, *filter(None, [shown])])
    unet = load(artifact, tap, policy=policy, progress=False)
    return TappedModel(unet, tap, latent, shown, half_of(artifact, manifest, shown) if shown else None)
