"""Digits through the whole system: exact, good enough, and in every pipeline and scheduler."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler

import hecompile
from hecompile.compiler import Compiled
from hecompile.ir.linear import Array
from hecompile.models import digits as model
from hecompile.models.digits.classifier import recognised_share
from hecompile.models.digits.pipeline import ClassConditionalPipeline
from hecompile.models.digits.schedulers import SCHEDULERS, make_scheduler
from hecompile.options import CompileOptions
from tests.artifacts import compile_once
from tests.works import works

TRAINED = "with the zoo's `digits-unconditional`"


def draw(unet: torch.nn.Module, scheduler: str, labels: list[int], steps: int) -> Array:
    pipeline = ClassConditionalPipeline(unet, make_scheduler(scheduler, dict(model.SCHEDULER)))
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(100 + label) for label in labels]
    images: Array = pipeline(labels, steps, generators, output_type="np").images
    return images


def psnr(first: Array, second: Array) -> float:
    """Pixels in [0, 1]."""
    return float(10 * np.log10(1 / np.mean((first.astype(np.float64) - second) ** 2)))


@pytest.mark.fhe
def test_encrypted_equals_clear_bit_for_bit(digits: Path, digits_clear: Path) -> None:
    labels = list(range(10))
    encrypted = draw(hecompile.load(digits), "ddim", labels, 2)
    clear = draw(hecompile.load(digits_clear, policy="simulation"), "ddim", labels, 2)
    np.testing.assert_array_equal(encrypted, clear)


def test_clear_is_close_to_the_float_model(digits_clear: Path) -> None:
    """Two steps here; the ten-step figure, at least 40 dB, is the benchmark's."""
    labels = list(range(10))
    simulated = draw(hecompile.load(digits_clear, policy="simulation"), "ddim", labels, 2)
    assert psnr(simulated, draw(model.load(), "ddim", labels, 2)) > 40


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler(digits_clear: Path, scheduler: str) -> None:
    """Second-order solvers amplify the quantiser's error more than DDIM does; all ten digits stay what they are."""
    labels = list(range(10))
    simulated = draw(hecompile.load(digits_clear, policy="simulation"), scheduler, labels, 10)
    assert psnr(simulated, draw(model.load(), scheduler, labels, 10)) > 30
    assert recognised_share(simulated, labels) >= 0.9


@pytest.mark.fhe
def test_encrypted_with_the_schedulers_that_pass_odd_timesteps(digits: Path, digits_clear: Path) -> None:
    """Euler with Karras noise levels gives fractional timesteps, PNDM repeats one."""
    for scheduler in ("euler", "pndm"):
        encrypted = draw(hecompile.load(digits), scheduler, [5], 2)
        np.testing.assert_array_equal(encrypted, draw(hecompile.load(digits_clear, policy="simulation"), scheduler, [5], 2))


@pytest.fixture(scope="module")
def unconditional() -> dict[str, Compiled]:
    return {backend: compile_once("digits-unconditional", CompileOptions(backend=backend)) for backend in ("bfv", "clear")}


@pytest.mark.fhe
@pytest.mark.parametrize(
    ("pipeline", "scheduler"),
    [
        pytest.param(DDPMPipeline, DDPMScheduler, marks=works("pipelines", "`DDPMPipeline`", 35, how=TRAINED)),
        pytest.param(DDIMPipeline, DDIMScheduler, marks=works("pipelines", "`DDIMPipeline`", 35, how=TRAINED)),
    ],
)
def test_the_pipelines_of_diffusers(unconditional: dict[str, Compiled], pipeline: type, scheduler: type) -> None:
    """`pipe.unet = ...` and nothing else."""
    images = []
    for unet in (
        model.load_unconditional(),
        hecompile.load(unconditional["clear"].artifact or "", policy="simulation"),
        hecompile.load(unconditional["bfv"].artifact or ""),
    ):
        pipe = pipeline(unet=model.load_unconditional(), scheduler=scheduler(**model.SCHEDULER))
        pipe.unet = unet
        pipe.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(0)
        images.append(pipe(batch_size=2, num_inference_steps=2, generator=generator, output_type="np").images)
    plain, clear, encrypted = images
    np.testing.assert_array_equal(clear, encrypted)
    assert psnr(plain, clear) > 35
