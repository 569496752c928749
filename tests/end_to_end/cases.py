"""What pipelines are called with in tests: schedulers, arguments of a call, and callbacks after each step."""

from __future__ import annotations

from typing import Any

import diffusers
import torch

from tests.end_to_end.pipelines import NEGATIVE, OTHER, PROMPT

__all__ = ["CALLBACKS", "CALLS", "SCHEDULERS", "guidance_ends", "prompt_travels", "scheduler"]

SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "DDIM": ("DDIMScheduler", {"clip_sample": False, "steps_offset": 1}),
    "DDPM": ("DDPMScheduler", {"clip_sample": False}),
    "DEIS": ("DEISMultistepScheduler", {}),
    "Euler": ("EulerDiscreteScheduler", {}),
    "Euler ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "Heun": ("HeunDiscreteScheduler", {}),
    "DPM++ 2M Karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "DPM++ single step": ("DPMSolverSinglestepScheduler", {}),
    "KDPM2": ("KDPM2DiscreteScheduler", {}),
    "KDPM2 ancestral": ("KDPM2AncestralDiscreteScheduler", {}),
    "PNDM": ("PNDMScheduler", {"skip_prk_steps": True}),
    "PNDM with Runge-Kutta steps": ("PNDMScheduler", {"skip_prk_steps": False}),
    "UniPC": ("UniPCMultistepScheduler", {}),
    "LCM": ("LCMScheduler", {}),
    "LMS": ("LMSDiscreteScheduler", {}),
    "TCD": ("TCDScheduler", {}),
}
CALLS: dict[str, dict[str, Any]] = {
    "guidance": {},
    "no guidance": {"guidance_scale": 1.0},
    "negative prompt": {"negative_prompt": NEGATIVE},
    "two pictures a prompt": {"negative_prompt": NEGATIVE, "num_images_per_prompt": 2},
    "two prompts": {"prompt": [PROMPT, OTHER], "negative_prompt": [NEGATIVE, "sad"]},
    "guidance rescaled": {"guidance_rescale": 0.7},
    "latents given": {"latents": torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3)), "generator": None},
    "noise added by the scheduler (`eta`)": {"eta": 0.5},
}


def scheduler(name: str, config: dict[str, Any]) -> Any:
    """The scheduler of that name, with the schedule of this configuration."""
    kind, settings = SCHEDULERS[name]
    return getattr(diffusers, kind).from_config(config, **settings)


def latents_are_smaller(pipe: Any, step: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
    return {"latents": values["latents"] * 0.8}


def prompt_travels(pipe: Any, step: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Half the way to the other prompt after each step."""
    other, negative = pipe.encode_prompt(OTHER, "cpu", 1, True, NEGATIVE)
    target = torch.cat([negative, other]).to(values["prompt_embeds"])
    return {"prompt_embeds": values["prompt_embeds"] * 0.5 + target * 0.5}


def guidance_ends(pipe: Any, step: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
    """No guidance from the second step on: the batch is half as large."""
    if step:
        return {}
    pipe._guidance_scale = 0.0
    return {"prompt_embeds": values["prompt_embeds"].chunk(2)[-1]}


def stops(pipe: Any, step: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
    pipe._interrupt = step == 1
    return {}


CALLBACKS = {
    "a callback changes the latents": latents_are_smaller,
    "a callback changes the prompt": prompt_travels,
    "a callback ends guidance": guidance_ends,
    "a callback interrupts": stops,
}
