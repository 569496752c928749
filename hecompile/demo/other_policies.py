"""What other policies would show a server of a latent that is at hand: made by their own artifacts, and never sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hecompile.buffers import Buffer
from hecompile.demo.pictures import as_address, channel_sheet, partly_shown
from hecompile.runtime.arguments import as_array
from hecompile.runtime.bundle import load_bundle
from hecompile.runtime.executor import Executor
from hecompile.runtime.revealed import RevealedChannels, first_revealing, half_of, revealed_channels, revealed_step
from hecompile.runtime.scheduler import coefficients
from hecompile.runtime.service import load_service
from hecompile.runtime.transports import LocalTransport

if TYPE_CHECKING:
    import torch

    from hecompile.ir.halves import Array

__all__ = ["HeDiffusionView", "MinDistortionView", "StepTaken", "View", "channels_view"]


@dataclass(frozen=True, eq=False, repr=False)
class StepTaken:
    """One step of a sampler.

    Attributes:
        timestep: that of `before`; `previous` is that of `after`, below zero at the end.
        before, after: latents (1, 48, 8, 8).
        call: the arguments of the UNet's call, by name.
    """

    timestep: int
    previous: int
    before: torch.Tensor
    after: torch.Tensor
    call: Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class View:
    """What a policy shows at a step: a picture's address, empty if there is none, and a sentence."""

    picture: str
    sentence: str

    def document(self) -> dict[str, str]:
        return {"picture": self.picture, "sentence": self.sentence}


class _SeenError(Exception):
    """The request that was waited for was made: nothing after it is needed."""


class _UntilRegion(LocalTransport):
    """Answers in this process until a region is asked, whose request it keeps."""

    def __init__(self, service: Any, region: str) -> None:
        super().__init__(service)
        self._region, self.request = region, b""

    def send(self, digest: str, region: str, body: Sequence[Buffer], reply: Buffer) -> None:
        if region == self._region:
            self.request = b"".join(bytes(piece) for piece in body)
            raise _SeenError
        super().send(digest, region, body, reply)


class HeDiffusionView:
    """The client of a sampler's step under `he-diffusion`, which makes its requests here and sends nothing.

    Raises:
        ProtocolError: if the artifact is not in order.
    """

    def __init__(self, artifact: Path) -> None:
        self._sampler = load_bundle(artifact, "he-diffusion", sampler=True)
        (self._step,) = self._sampler.calls
        half = half_of(artifact, self._sampler.manifest, self._step)
        shape = tuple(int(size) for size in self._sampler.manifest.inputs[0].shape[1:])
        self._half = half
        self._encrypted = np.unpackbits(half.tensors["masks"][0], count=int(np.prod(shape))).astype(np.bool_).reshape(shape)

    def at(self, pipe: Any, step: StepTaken) -> View:
        """The latent after the step where the server would compute it in the clear, as the pipeline decodes it."""
        abar = float(pipe.scheduler.alphas_cumprod[step.timestep])
        final = pipe.scheduler.final_alpha_cumprod
        before = float(pipe.scheduler.alphas_cumprod[step.previous] if step.previous >= 0 else final)
        if abar == 0:
            return View("", "The first step stays at the client: its latent is noise alone, for which the factor f is infinite.")
        f, g = coefficients(abar, before)
        sample, after = (latents.double().numpy() for latents in (step.before, step.after))
        noise = (after - f * sample) / g  # of x' = f x + g e
        inputs: list[Array] = [sample, noise, np.array([step.timestep, f, g])]
        payload, _ = self._sampler.calls[self._step].encrypt(inputs, 1)
        shown = revealed_step(self._half, b"".join(bytes(piece) for piece in payload))
        entries = (shown.f * shown.sample + shown.g * shown.noise).astype(np.float64)
        values = np.zeros(self._encrypted.shape)
        values[~self._encrypted] = entries / max(np.abs(entries).max(initial=0), 1)
        picture = partly_shown((_decoded(pipe, values) + 1) / 2, _decoded(pipe, ~self._encrypted) > 0)
        count, of = int((~self._encrypted).sum()), self._encrypted.size
        return View(
            as_address(picture),
            f"{count:,} of the latent's {of:,} numbers ({count / of:.0%}) in the clear, in the same places at every step, "
            "and as many of the noise prediction. An encrypted colour of a pixel is half bright here.",
        )


class MinDistortionView:
    """The client of the UNet under `min-distortion`, with a server in this process, so that nothing is sent.

    Raises:
        ProtocolError: if the artifact is not in order.
    """

    def __init__(self, artifact: Path) -> None:
        self._model = load_bundle(artifact, "min-distortion")
        self._region = first_revealing(artifact, self._model.manifest)
        self._half = half_of(artifact, self._model.manifest, self._region) if self._region else None
        self._transport = _UntilRegion(load_service(artifact), self._region)
        self._executor = Executor(self._model, self._transport)

    def at(self, pipe: Any, step: StepTaken) -> View:
        """The channels that the first layer with revealed channels would show."""
        specs = self._model.manifest.inputs
        batch = len(step.call["sample"])
        self._executor.start_run()
        with suppress(_SeenError):
            self._executor.run({spec.name: as_array(step.call[str(spec.keyword[0])], spec, batch) for spec in specs}, batch)
        if self._half is None:
            return View("", "Nothing is shown within this budget.")
        return channels_view(revealed_channels(self._half, self._transport.request))


def channels_view(shown: Sequence[RevealedChannels]) -> View:
    """The revealed channels of a request's first layer that has some, for the last picture of its batch: that with the caption."""
    first = shown[0]
    whole = first.integers[-1].reshape(len(first.channels), -1, first.integers.shape[-1])  # layers with a stride have several each
    picture = channel_sheet(whole, first.channels, first.count)
    entries = first.integers[0].size
    return View(
        as_address(picture),
        f"{len(first.channels)} of the {first.count} channels of the first layer that shows any ({entries:,} numbers, rounded), "
        "in the clear. Each has its own contrast here.",
    )


def _decoded(pipe: Any, latents: Array) -> Array:
    """Latents (48, 8, 8) as the pipeline's autoencoder arranges them: (3, 32, 32)."""
    import torch

    decoded: Array = pipe.vae.decode(torch.from_numpy(latents[None].astype(np.float32)), return_dict=False)[0][0].numpy()
    return decoded
