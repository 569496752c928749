"""Sampling a compiled class-conditional model to a PNG file, as `hecompile sample` does."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hecompile.errors import CompileError, Diagnostic, needing, unknown_name
from hecompile.outputs import judge_file, write_file

if TYPE_CHECKING:
    from hecompile.runtime.transports import AccessOptions

__all__ = ["SCHEDULERS", "draw", "encoded", "make_scheduler", "picture_row"]


def _ddim(options: dict[str, Any]) -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(**options)


def _pndm(options: dict[str, Any]) -> Any:
    from diffusers import PNDMScheduler

    return PNDMScheduler(**options, skip_prk_steps=True)


def _euler(options: dict[str, Any]) -> Any:
    from diffusers import EulerDiscreteScheduler

    # without a bound, the cosine schedule starts at a noise level of 20,000, where a prediction of noise tells nothing
    return EulerDiscreteScheduler(**options, use_karras_sigmas=True, sigma_max=50.0)


def _dpm(options: dict[str, Any]) -> Any:
    from diffusers import DPMSolverMultistepScheduler

    return DPMSolverMultistepScheduler(**options, thresholding=True, sample_max_value=1.0)


SCHEDULERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "ddim": _ddim,
    "pndm": _pndm,
    "euler": _euler,
    "dpm++": _dpm,
}


def make_scheduler(name: str, options: dict[str, Any]) -> Any:
    """A scheduler of diffusers by its short name. Raises `CompileError` listing the names."""
    if name not in SCHEDULERS:
        raise unknown_name("scheduler", name, tuple(SCHEDULERS))
    return SCHEDULERS[name](options)


def picture_row(images: Any, scale: int = 16) -> Any:
    """Images (B, H, W, C) in [0, 1] side by side as one PIL image, each entry `scale` pixels wide."""
    import numpy as np
    from PIL import Image

    row = np.concatenate([np.pad(image[..., 0], 1, constant_values=0.5) for image in images], axis=1)
    enlarged = np.kron((np.clip(row, 0, 1) * 255).round().astype(np.uint8), np.ones((scale, scale), np.uint8))
    return Image.fromarray(enlarged)


def _judge_output(output: Path) -> None:
    """Raise `CompileError` for a picture that cannot be written, before anything is drawn."""
    from PIL import Image

    kinds = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.SAVE}
    if output.suffix.lower() not in kinds:
        raise CompileError(Diagnostic(f"{output}: '{output.suffix}' is no kind of picture", help="name it *.png, for example"))
    try:
        encoded(Image.new("L", (16, 16)), output.suffix)
    except Exception as error:  # kinds without grey, or whose writer is not installed: each fails in its own way
        raise CompileError(
            Diagnostic(f"{output}: a grey picture cannot be written as '{output.suffix}'", help="name it *.png, for example")
        ) from error
    judge_file(output)


def encoded(picture: Any, suffix: str) -> bytes:
    """A picture as the bytes of a file whose name ends so."""
    from PIL import Image

    data = BytesIO()
    picture.save(data, format=Image.registered_extensions()[suffix.lower()])
    return data.getvalue()


def draw(
    artifact: Path, server: str | None, labels: Sequence[int], steps: int, seed: int | None, scheduler: str, policy: str,
    output: Path, progress: bool = True, simulate: bool = False, access: AccessOptions | None = None,
) -> dict[str, object]:  # fmt: skip
    """Draw one picture per label and write them side by side; what was measured. Seeds count up from `seed`, 0 by default.

    `simulate` encrypts nothing: regions are computed here with the noise that their library models. `access` is that of `load`.

    Raises:
        CompileError: if the model takes no labels, a label is out of range, or an artifact that reveals anything gets a seed.
        ProtocolError: if the artifact or the server is not in order.
    """
    _judge_output(output)
    if simulate and any(value is not None for value in (access or {}).values()):
        raise CompileError("a simulation asks no server: certificates, tokens and headers mean nothing")
    if simulate and server is not None:
        raise CompileError(Diagnostic("a simulation that asks a server", help="leave --server away: everything is computed here"))
    with needing("sampling", "client"):
        import torch

        from hecompile.models.digits import SCHEDULER
        from hecompile.models.digits.pipeline import ClassConditionalPipeline
        from hecompile.runtime.client import load
        from hecompile.runtime.simulation import load_simulation

    unet = load_simulation(artifact) if simulate else load(artifact, server, policy=policy, **(access or {}))
    with closing(unet):  # also when it fails: a server keeps the keys of a session
        classes = unet.config.get("num_class_embeds")
        if not isinstance(classes, int):
            raise CompileError(Diagnostic(f"{artifact} takes no labels", help="set pipe.unet = hecompile.load(...) in a pipeline"))
        wrong = [label for label in labels if not 0 <= label < classes]
        if wrong:
            raise CompileError(f"labels {wrong}: the model has classes 0 to {classes - 1}")
        if unet.reveals and seed is not None:
            raise CompileError(
                Diagnostic(
                    f"edge noise -> sample: seed {seed} for an artifact that reveals: what it shows gives that away",
                    help="leave --seed away: the noise then comes from 128 bits that nobody knows",
                )
            )
        pipeline = ClassConditionalPipeline(unet, make_scheduler(scheduler, dict(SCHEDULER)))
        pipeline.set_progress_bar_config(disable=not progress)
        started = time.perf_counter()
        if unet.reveals:
            images = pipeline(labels, steps, output_type="np", latents=unet.initial_noise(len(labels))).images
        else:
            generators = [torch.Generator().manual_seed((seed or 0) + place) for place in range(len(labels))]
            images = pipeline(labels, steps, generators, output_type="np").images
        wall_s = time.perf_counter() - started
        write_file(output, encoded(picture_row(images), output.suffix))
        meter = unet.meter
        return {
            "output": str(output), "simulation": simulate or not unet.encrypted,
            "labels": list(labels), "steps": steps, "seed": seed, "wall_s": wall_s,
            "client_s": meter.client_s, "requests": meter.requests, "bytes_up": meter.bytes_up, "bytes_down": meter.bytes_down,
            "excursions": dict(meter.excursions),
        }  # fmt: skip
