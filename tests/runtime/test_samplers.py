"""`EncryptedScheduler` against the plaintext sampler, over a local transport and over HTTP, and what it refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, EulerDiscreteScheduler, PNDMScheduler, UNet2DModel

from hecompile.compiler import Compiled
from hecompile.errors import CompileError, ProtocolError
from hecompile.runtime.client import InputError
from hecompile.runtime.scheduler import EncryptedScheduler, coefficients
from tests.sampling import SCHEDULE, SHAPE, artifact, draw, load, make, predict, psnr


@pytest.fixture(scope="module")
def revealing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sampler") / "revealing.he"
    assert artifact(folder).reveals
    return folder


@pytest.mark.parametrize("kind", ["plms", "ddim"])
@pytest.mark.parametrize("prediction", ["epsilon", pytest.param("v_prediction", marks=pytest.mark.fhe)])
def test_fifty_steps_are_within_sixty_decibels(revealing: Path, kind: str, prediction: str) -> None:
    scheduler = load(make(kind, prediction_type=prediction), revealing)
    x = scheduler.initial_noise(2)
    reference = draw(make(kind, prediction_type=prediction), x, 50)
    result = draw(scheduler, x, 50)
    assert psnr(result, reference) > 60
    assert scheduler.meter.calls == len(scheduler.timesteps)


@pytest.mark.fhe
@pytest.mark.parametrize(
    "options",
    [
        {"fill": True},
        {"tau": 0.0},
        {"tau": 0.9, "most_clear": 0.99},
        {"nested": True},
        {"dynamic": True, "most_clear": 0.5},
        {"dynamic": True, "fill": True, "cost": "magnitude"},
        {"reveal_bits": 14, "cost": "variance"},
    ],
    ids=str,
)
def test_every_choice_of_masks_is_within_sixty_decibels(tmp_path: Path, options: dict[str, Any]) -> None:
    artifact(tmp_path / "a", **options)
    scheduler = load(make("plms"), tmp_path / "a")
    x = scheduler.initial_noise(1)
    assert psnr(draw(scheduler, x, 20), draw(make("plms"), x, 20)) > 60


def test_a_second_run_starts_anew(revealing: Path) -> None:
    scheduler = load(make("plms"), revealing)
    for _ in range(2):
        x = scheduler.initial_noise(1)
        assert psnr(draw(scheduler, x, 5), draw(make("plms"), x, 5)) > 60


def test_the_wrapped_scheduler_is_left_alone_and_shines_through(revealing: Path) -> None:
    inner = make("plms")
    scheduler = load(inner, revealing)
    scheduler.set_timesteps(10)
    assert inner.num_inference_steps is None
    assert scheduler.config is not None
    assert (scheduler.order, scheduler.init_noise_sigma, len(scheduler)) == (1, 1.0, 1000)
    assert len(scheduler.timesteps) == 11
    with pytest.raises(AttributeError):
        _ = scheduler.nothing


def test_coefficients_are_those_of_the_paper() -> None:
    f, g = coefficients(0.5, 0.6)
    assert f == pytest.approx((0.6 / 0.5) ** 0.5)
    assert g == pytest.approx(0.4**0.5 - f * 0.5**0.5)


@pytest.mark.fhe
def test_over_http(revealing: Path, tmp_path: Path, server: str) -> None:
    shutil.copytree(revealing, tmp_path / "client-only", ignore=shutil.ignore_patterns("server"))
    scheduler = load(make("ddim"), tmp_path / "client-only", server)
    x = scheduler.initial_noise(3)
    assert psnr(draw(scheduler, x, 10), draw(make("ddim"), x, 10)) > 60
    scheduler.close()


@pytest.fixture(scope="module")
def server(revealing: Path) -> Iterator[str]:
    command = [
        sys.executable,
        "-c",
        "from hecompile.cli import main; main()",
        "serve",
        str(revealing / "server"),
        "--port",
        "0",
        "--json",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield json.loads(process.stdout.readline())["url"]
    process.terminate()
    process.wait()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_stop_the_run_at_its_end_only(revealing: Path, value: float) -> None:
    scheduler = load(make("ddim"), revealing)
    x = scheduler.initial_noise(1)
    scheduler.set_timesteps(4)
    for place, t in enumerate(scheduler.timesteps):
        noise = predict(scheduler, x, t)
        if place == 1:
            noise[0, 0, 0, 0] = value
        if place == 3:
            with pytest.raises(InputError, match="is not usable"):
                scheduler.step(noise, t, x)
        else:
            x = scheduler.step(noise, t, x).prev_sample
    assert scheduler.meter.requests == 4


def first_step(scheduler: EncryptedScheduler, x: torch.Tensor, **more: object) -> None:
    scheduler.set_timesteps(4)
    scheduler.step(torch.zeros_like(x), scheduler.timesteps[0], x, **more)  # type: ignore[arg-type]


def test_latents_of_torchs_generator_are_refused_before_anything_is_sent(revealing: Path) -> None:
    scheduler = load(make("plms"), revealing)
    for seeded in (torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(1)), torch.randn(1, *SHAPE)):
        for _ in range(2):  # trying again does not help
            with pytest.raises(CompileError, match=r"noise -> sample.*generator"):
                first_step(scheduler, seeded)
    with pytest.raises(CompileError, match="generator"):
        first_step(scheduler, scheduler.initial_noise(1), generator=torch.Generator())
    with pytest.raises(CompileError, match="an integer seed"):
        scheduler.initial_noise(1, 42)  # type: ignore[arg-type]
    assert scheduler.meter.requests == 0


def test_any_latents_will_do_where_nothing_is_revealed(tmp_path: Path) -> None:
    assert not artifact(tmp_path / "a", tau=0.0).reveals
    first_step(load(make("plms"), tmp_path / "a"), torch.randn(1, *SHAPE))


@pytest.mark.parametrize("batch", [4, 0])
def test_batches_that_do_not_fit_are_refused(revealing: Path, batch: int) -> None:
    scheduler = load(make("plms"), revealing)
    with pytest.raises(InputError, match="batches of 1 to 3"):
        first_step(scheduler, scheduler.initial_noise(batch))


def test_schedulers_without_an_affine_step_are_refused(revealing: Path) -> None:
    wrong = {
        "not known to be linear combinations": EulerDiscreteScheduler(),
        "skip_prk_steps": PNDMScheduler(**SCHEDULE),
        "clip_sample": make("ddim").__class__(**SCHEDULE),
        "'sample' is neither": make("ddim", prediction_type="sample"),
    }
    for reason, scheduler in wrong.items():
        with pytest.raises(CompileError, match=reason):
            load(scheduler, revealing)


def test_a_strict_client_refuses_the_artifact(revealing: Path) -> None:
    with pytest.raises(ProtocolError, match="he-diffusion"):
        load(make("plms"), revealing, policy="strict")


def test_a_client_refuses_more_than_its_own_budget(tmp_path: Path) -> None:
    artifact(tmp_path / "a", tau=0.5)
    with pytest.raises(ProtocolError, match=r"noise -> sampler.*counted over all steps.*at most 25.0%"):
        EncryptedScheduler(make("plms"), tmp_path / "a")


@pytest.mark.fhe
def test_the_way_to_the_server_is_that_of_unets(revealing: Path, tiny: Compiled) -> None:
    """Options, addresses and greetings are judged as `load` judges them."""
    from hecompile.runtime.service import load_service
    from hecompile.runtime.transports import LocalTransport

    assert tiny.artifact is not None
    with pytest.raises(CompileError, match="no effect without a URL: token"):
        load(make("ddim"), revealing, token="abc")
    with pytest.raises(CompileError, match="without encryption"):
        load(make("ddim"), revealing, "http://192.0.2.1", token="abc")
    with pytest.raises(ProtocolError, match="serves artifact"):
        load(make("ddim"), revealing, LocalTransport(load_service(tiny.artifact)))


def test_a_unets_artifact_is_no_samplers(tiny: Compiled) -> None:
    assert tiny.artifact is not None
    with pytest.raises(ProtocolError, match="not a sampler's artifact"):
        load(make("plms"), tiny.artifact, policy="strict")


def test_the_log_carries_the_watermark(revealing: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(make("plms"), revealing)
    assert "no cryptographic guarantee: 'sampler' reveals parts of 2 values" in caplog.text


class LatentPipeline(DiffusionPipeline):
    """A pipeline that takes latents, as those of Stable Diffusion do."""

    def __init__(self, unet: torch.nn.Module, scheduler: object) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    @torch.no_grad()
    def __call__(self, latents: torch.Tensor, steps: int) -> torch.Tensor:
        self.scheduler.set_timesteps(steps, device="cpu")
        latents = latents * self.scheduler.init_noise_sigma
        for t in self.scheduler.timesteps:
            noise = self.unet(self.scheduler.scale_model_input(latents, t), t).sample
            latents = self.scheduler.step(noise, t, latents, return_dict=False)[0]
        return latents


@pytest.mark.fhe
def test_in_a_pipeline_of_diffusers(revealing: Path) -> None:
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=16, in_channels=4, out_channels=4, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
    )  # fmt: skip
    pipe = LatentPipeline(unet, make("plms"))
    scheduler = load(pipe.scheduler, revealing)
    latents = scheduler.initial_noise(2)
    reference = pipe(latents, 10)
    pipe.scheduler = scheduler
    assert psnr(pipe(latents, 10), reference) > 60
    assert scheduler.meter.requests == 11
