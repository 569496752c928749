"""The compiled UNet as a part among others: switches of the pipeline, copies, and pipelines without a UNet."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline, StableDiffusionPipeline

import hecompile
from hecompile.runtime.arguments import InputError
from hecompile.runtime.batches import as_like
from tests.end_to_end.pipelines import Pair, draw, example, psnr
from tests.frontend.models import MODELS
from tests.works import own_work, refused, works

pytestmark = pytest.mark.slow  # each compiles a UNet, or waits for one

NEAR_DB = 45.0


@works("pipelines", "`StableDiffusionPipeline(**pipe.components)`", NEAR_DB)
def test_a_pipeline_of_the_components_of_another(text_to_image: Pair) -> None:
    pipe = StableDiffusionPipeline(**text_to_image.encrypted.components, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    assert torch.equal(draw(pipe), draw(text_to_image.encrypted))


@works("precision and devices", "`pipe.enable_attention_slicing()` with a compiled UNet", how="has no effect on it")
def test_attention_slicing_of_a_pipeline_changes_nothing(text_to_image: Pair) -> None:
    expected = draw(text_to_image.encrypted)
    text_to_image.encrypted.enable_attention_slicing()
    assert torch.equal(draw(text_to_image.encrypted), expected)


@works("precision and devices", "`torch.compile(pipe.unet)`", how="compiles nothing in it: it is not traced")
def test_a_compiled_unet_under_torch_compile(text_to_image: Pair) -> None:
    unet = text_to_image.encrypted.unet
    assert torch.equal(torch.compile(unet)(**example()).sample, unet(**example()).sample)


@pytest.mark.parametrize(
    "copied",
    [
        pytest.param(
            copy.deepcopy, id="deepcopy", marks=refused("precision and devices", "`copy.deepcopy(unet)`", "load it again")
        ),
        pytest.param(pickle.dumps, id="pickle", marks=refused("precision and devices", "`pickle.dumps(unet)`", "load it again")),
    ],
)
def test_a_loaded_model_is_not_copied(copied: Any, text_to_image: Pair) -> None:
    with pytest.raises(TypeError, match="load it again"):
        copied(text_to_image.encrypted.unet)


@refused("guidance and callbacks", "a timestep of its own for each picture", "call the model once for each timestep")
def test_timesteps_that_differ_within_the_batch(text_to_image: Pair) -> None:
    with pytest.raises(InputError, match="timestep differs within the batch"):
        text_to_image.encrypted.unet(**example() | {"timestep": torch.tensor([10.0, 20.0])})


@own_work(
    "precision and devices", "a GPU at the client", "untested there: answers go to the latents' device, regions run on the CPU"
)
def test_answers_go_to_the_device_of_the_latents() -> None:
    assert as_like(np.zeros((1, 4, 8, 8), np.float32), torch.empty(1, device="meta")).device.type == "meta"


@works("precision and devices", "float64 latents")
def test_latents_in_double_precision(text_to_image: Pair) -> None:
    unet, call = text_to_image.encrypted.unet, example()
    result = unet(**call | {"sample": call["sample"].double()}).sample
    assert torch.equal(result, unet(**call).sample.double())


def flow_matching(transformer: Any) -> StableDiffusion3Pipeline:
    """Stable Diffusion 3 without text encoders: prompts are passed as embeddings."""
    torch.manual_seed(1)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vae = AutoencoderKL(
        **blocks, block_out_channels=(16, 32), norm_num_groups=8, latent_channels=4, scaling_factor=1.0, shift_factor=0.0
    )
    words = dict.fromkeys(f"{kind}{place}" for kind in ("text_encoder", "tokenizer") for place in ("", "_2", "_3"))
    pipe = StableDiffusion3Pipeline(transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(), vae=vae.eval(), **words)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@works("pipelines", "`StableDiffusion3Pipeline`", NEAR_DB, how="`pipe.transformer = hecompile.load(...)`")
@works("schedulers", "flow-match Euler", NEAR_DB)
def test_stable_diffusion_3_with_flow_matching(tmp_path: Path) -> None:
    plain = flow_matching(MODELS["SD3Transformer2DModel"].build())
    hecompile.compile(plain, tmp_path / "three", options=hecompile.CompileOptions(backend="clear", tokens=7))
    loaded = flow_matching(hecompile.load(tmp_path / "three", policy="simulation"))
    generator = torch.Generator().manual_seed(2)
    prompt, pooled = torch.randn(2, 7, 12, generator=generator), torch.randn(2, 10, generator=generator)
    embeds = {"prompt_embeds": prompt[:1], "negative_prompt_embeds": prompt[1:]}
    embeds |= {"pooled_prompt_embeds": pooled[:1], "negative_pooled_prompt_embeds": pooled[1:]}
    results = [draw(pipe, None, **embeds) for pipe in (plain, loaded)]
    assert psnr(results[1], results[0]) >= NEAR_DB
