"""Sampler artifacts, schedules and predictors that tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, PNDMScheduler

from hecompile.artifact import Manifest
from hecompile.calibration.calls import Call
from hecompile.runtime.scheduler import EncryptedScheduler
from hecompile.runtime.transports import Transport
from hecompile.sampler_artifact import SamplerOptions, compile_sampler

SHAPE = (4, 16, 16)
SCHEDULE = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "steps_offset": 1,
    "set_alpha_to_one": False,
}


def make(kind: str, **config: Any) -> Any:
    """A scheduler of diffusers with Stable Diffusion's schedule."""
    if kind == "plms":
        return PNDMScheduler(**SCHEDULE, skip_prk_steps=True, **config)
    return DDIMScheduler(**SCHEDULE, clip_sample=False, **config)


def calls(shape: tuple[int, int, int] = SHAPE) -> list[Call]:
    """Latents at twenty timesteps."""
    rng = np.random.default_rng(4)
    return [Call({"sample": rng.standard_normal((2, *shape)), "timestep": np.asarray(float(t))}) for t in range(0, 1000, 50)]


def artifact(folder: Path, shape: tuple[int, int, int] = SHAPE, **options: Any) -> Manifest:
    """A sampler's artifact that reveals, unless asked otherwise."""
    sampler_options = SamplerOptions(**{"tau": 0.1, "fill": False, "most_clear": 0.9, "max_batch": 3, **options})
    return compile_sampler(folder, shape, calls(shape), sampler_options)


def load(scheduler: Any, folder: Path, server: str | Transport | None = None, **more: Any) -> EncryptedScheduler:
    """A client that accepts any declared share."""
    return EncryptedScheduler(scheduler, folder, server, **{"most_clear": 1.0, **more})


def predict(scheduler: Any, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """A synthetic predictor: E[noise | x] of pictures N(0.5, 0.25); as v where the scheduler wants v."""
    abar = float(scheduler.alphas_cumprod[int(t)])
    noise = (x - 0.5 * abar**0.5) * ((1 - abar) ** 0.5 / (0.25 * abar + 1 - abar))
    if scheduler.config.prediction_type == "v_prediction":
        return (noise - (1 - abar) ** 0.5 * x) / abar**0.5
    return noise


def draw(scheduler: Any, x: torch.Tensor, steps: int) -> torch.Tensor:
    """The final latents."""
    scheduler.set_timesteps(steps)
    for t in scheduler.timesteps:
        x = scheduler.step(predict(scheduler, x, t), t, x, return_dict=False)[0]
    return x


def psnr(result: torch.Tensor, reference: torch.Tensor) -> float:
    """In dB, the peak being the reference's range."""
    error = float((result.double() - reference.double()).square().mean())
    return float(10 * np.log10(float(reference.max() - reference.min()) ** 2 / error))
