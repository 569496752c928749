"""The schedulers of diffusers that draw digits well, by short names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hecompile.errors import unknown_name

__all__ = ["SCHEDULERS", "make_scheduler"]


def _ddim(options: dict[str, Any]) -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(**options)


def _pndm(options: dict[str, Any]) -> Any:
    from diffusers import PNDMScheduler

    return PNDMScheduler(**options, skip_prk_steps=True)


def _euler(options: dict[str, Any]) -> Any:
    from diffusers import EulerDiscreteScheduler

    # without this bound the cosine schedule starts at a noise level of 20,000, where the predicted noise carries no information
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
    """Return a scheduler of diffusers by its short name. For an unknown name, raises `CompileError` with the names that exist."""
    if name not in SCHEDULERS:
        raise unknown_name("scheduler", name, tuple(SCHEDULERS))
    return SCHEDULERS[name](options)
