"""Draws a wish through an encrypted UNet, and tells what happens while it does. All of it runs on one thread."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hecompile.demo.artifacts import Artifacts
from hecompile.demo.other_policies import HeDiffusionView, MinDistortionView, StepTaken
from hecompile.demo.pictures import as_address
from hecompile.demo.servers import ServerProcess
from hecompile.demo.tapped import TappedModel, open_tapped
from hecompile.demo.wishes import PolicyName, RefusedError, Wish
from hecompile.runtime.transports import ServerGoneError
from hecompile.wording import byte_text

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch

    from hecompile.runtime.client import EncryptedUNet

__all__ = ["Gone", "LeftError", "Say", "Studio"]

Say = Callable[[dict[str, object]], None]
Gone = threading.Event
VIEWS: dict[str, type[HeDiffusionView] | type[MinDistortionView]] = {
    "he-diffusion": HeDiffusionView,
    "min-distortion": MinDistortionView,
}
SIDE = 32  # of a picture, in pixels


class LeftError(Exception):
    """Nobody waits for the picture any more."""


@dataclass(frozen=True, repr=False)
class _Drawing:
    """The steps of the last picture, by a number that nobody guesses, for whoever got the picture."""

    number: str
    policy: PolicyName
    steps: Sequence[StepTaken]


class Studio:
    """Everything that draws. Belongs to the thread that makes it and draws with it.

    Args:
        artifacts: of the model `shapes`.
        server: URL of a server of the artifact for `strict`; None starts one for each policy when it is first needed.
        tell: called with a sentence before something is compiled for the start.
    """

    def __init__(self, artifacts: Artifacts, server: str | None, tell: Callable[[str], None]) -> None:
        from hecompile.models.shapes import load_pipeline

        self._artifacts, self._server = artifacts, server
        self._pipe: Any = load_pipeline()
        self._processes = dict[PolicyName, ServerProcess]()
        self._models = dict[PolicyName, TappedModel]()
        self._views = dict[str, HeDiffusionView | MinDistortionView]()
        self._last = _Drawing("", "strict", ())
        try:
            self._model("strict", tell)
        except BaseException:
            self.close()
            raise

    @property
    def servers(self) -> dict[str, int]:
        """Process numbers of the servers that run, by policy."""
        return {name: process.pid for name, process in self._processes.items() if process.pid is not None}

    def close(self) -> None:
        """End the connections to servers, and the servers that were started."""
        with ExitStack() as stack:
            for process in self._processes.values():
                stack.callback(process.close)
            for model in self._models.values():
                stack.callback(model.unet.close)

    def draw(self, wish: Wish, say: Say, gone: Gone) -> None:
        """Draw, and tell of it: `say` is called with one record after each request and each step, and at the end.

        Raises:
            RefusedError: for a caption that is too long for the model, or a policy that the server does not serve.
            ServerGoneError: if the server is gone; the next picture then asks for it anew.
            ProtocolError: if it refuses.
            LeftError: once `gone` is set.
        """
        self._check(wish)
        self._last = _Drawing("", "strict", ())
        model = self._model(wish.policy, lambda sentence: say({"event": "note", "message": sentence}))
        try:
            steps, finished = self._drawn(model, wish, say, gone)
        except ServerGoneError as error:
            self._forget(wish.policy)
            way_out = "draw again when it is back" if self._server else "draw again, and another one is started"
            raise ServerGoneError(f"the server is gone: {error}; {way_out}") from error
        self._last = _Drawing(secrets.token_hex(16), wish.policy, steps)
        say({"event": "finished", "drawing": self._last.number, **finished})

    def show_others(self, drawing: str, say: Say, gone: Gone) -> None:
        """Call `say` with a record for each other policy and each step of the last drawing: what the policy would have revealed.

        Raises:
            RefusedError: if `drawing` is not the number of the last drawing.
            LeftError: once `gone` is set.
        """
        if not self._last.number or not secrets.compare_digest(drawing, self._last.number):
            raise RefusedError("another picture was drawn since: draw this one again")
        for name, kind in VIEWS.items():
            if name == self._last.policy:
                continue
            if name not in self._views:
                artifact = self._artifacts.of(name, lambda sentence: say({"event": "note", "message": sentence}))
                self._views[name] = kind(artifact)
            for number, step in enumerate(self._last.steps, 1):
                if gone.is_set():
                    raise LeftError
                view = self._views[name].at(self._pipe, step)
                say({"event": "view", "step": number, "policy": name, **view.document()})

    def _check(self, wish: Wish) -> None:
        """Raise `RefusedError` for what this model or server does not do. The tokenizer would log what it cuts off."""
        from hecompile.models.shapes import TOKENS

        count = len(self._pipe.tokenizer(wish.prompt, verbose=False).input_ids) - 2  # without start and end
        if count > TOKENS - 2:
            raise RefusedError(
                f"the caption has {count} tokens, and this small model reads {TOKENS - 2}: a word that it knows is one token, "
                "each letter of another word may be one"
            )
        if self._server and wish.policy != "strict":
            raise RefusedError(f"{self._server} serves the artifact for strict alone")

    def _model(self, policy: PolicyName, tell: Callable[[str], None]) -> TappedModel:
        """The client of a policy, connected to a server that runs."""
        artifact = self._artifacts.of(policy, tell)
        url = self._server or self._processes.setdefault(policy, ServerProcess(artifact)).url()
        model = self._models.get(policy)
        if model is not None and (self._server or model.tap.url == url):
            return model
        self._forget(policy)
        self._models[policy] = open_tapped(artifact, url, policy)
        return self._models[policy]

    def _forget(self, policy: PolicyName) -> None:
        model = self._models.pop(policy, None)
        if model is not None:
            model.unet.close()

    def _drawn(self, model: TappedModel, wish: Wish, say: Say, gone: Gone) -> tuple[list[StepTaken], dict[str, object]]:
        """Draw the picture: the steps that led to it, and what it took."""
        import torch

        pipe, unet, guided = self._pipe, model.unet, wish.guidance > 1
        meter = unet.meter
        first = (meter.requests, meter.bytes_up, meter.bytes_down, meter.client_s)
        started = time.perf_counter()
        embeddings, negative = pipe.encode_prompt(wish.prompt, "cpu", 1, guided)
        both = torch.cat([negative, embeddings]) if guided else embeddings
        latents = self._noise(unet, wish)
        taken = [latents]
        steps = list[StepTaken]()

        def traffic(region: str = "") -> dict[str, object]:
            if gone.is_set():
                raise LeftError
            requests, up, down, client_s = (
                now - then
                for now, then in zip((meter.requests, meter.bytes_up, meter.bytes_down, meter.client_s), first, strict=True)
            )
            figures: dict[str, object] = {
                "requests": requests, "bytes_up": up, "bytes_down": down, "client_s": client_s,
                "seconds": time.perf_counter() - started,
            }  # fmt: skip
            return figures

        def told(region: str) -> None:
            say({"event": "traffic", **traffic()})

        def step(pipeline: Any, number: int, timestep: torch.Tensor, values: dict[str, torch.Tensor]) -> dict[str, Any]:
            t, after = int(timestep), values["latents"].clone()
            call = {"sample": torch.cat([taken[-1]] * len(both)), "timestep": timestep, "encoder_hidden_states": both}
            ratio = pipe.scheduler.config.num_train_timesteps // wish.steps
            steps.append(StepTaken(t, t - ratio, taken[-1], after, call))
            taken.append(after)
            shown = model.channels()
            say(
                {
                    "event": "step", "step": number + 1, "of": wish.steps, "picture": as_address(_picture(pipe, after)),
                    "words": model.words(), "shown": None if shown is None else shown.document(),
                }
            )  # fmt: skip
            return {}

        pipe.unet = unet
        meter.observers.append(told)
        try:
            with torch.no_grad(), unet.run():
                pipe(
                    prompt_embeds=embeddings, negative_prompt_embeds=negative if guided else None, latents=latents,
                    num_inference_steps=wish.steps, guidance_scale=wish.guidance, callback_on_step_end=step, output_type="latent",
                )  # fmt: skip
        finally:
            meter.observers.remove(told)
        figures = traffic()
        return steps, {"sentence": _sentence(model, figures), **figures}

    def _noise(self, unet: EncryptedUNet, wish: Wish) -> torch.Tensor:
        """The latents (1, 48, 8, 8) that a drawing starts from: the pipeline's own for a seed, else such that nobody can guess."""
        import torch

        if wish.seed is None:
            return unet.initial_noise(1)
        config = self._pipe.unet.config
        noise: torch.Tensor = self._pipe.prepare_latents(
            1, config.in_channels, SIDE, SIDE, torch.float32, "cpu", torch.Generator().manual_seed(wish.seed)
        )
        return noise


def _picture(pipe: Any, latents: torch.Tensor) -> npt.NDArray[np.uint8]:
    """Latents (1, 48, 8, 8) as the picture that the pipeline would return: (32, 32, 3)."""
    decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor, return_dict=False)[0]
    image = pipe.image_processor.postprocess(decoded, output_type="np")[0]
    picture: npt.NDArray[np.uint8] = (image * 255).round().astype(np.uint8)
    return picture


def _sentence(model: TappedModel, figures: dict[str, Any]) -> str:
    """What the server learnt, in a sentence."""
    sizes, reveals = f"{figures['requests']} requests with {byte_text(figures['bytes_up'])}", len(model.unet.reveals)
    if not reveals:
        return (
            f"The server got {sizes} of ciphertext and no key: it learnt which model is used, how many steps were drawn and when, "
            "and nothing about the caption or the picture."
        )
    return (
        f"The server got {sizes}, without a key: ciphertexts, and in the clear rounded parts of {reveals} inner values, for which "
        "there is no cryptographic guarantee."
    )
