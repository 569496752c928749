"""Pipelines of diffusers that start from a picture: the plain pipeline's result with the UNet compiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    AutoPipelineForImage2Image,
    DDPMScheduler,
    StableDiffusionAdapterPipeline,
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionUpscalePipeline,
)

from tests.end_to_end.pipelines import (
    ATTENTION_LEVELS,
    NEGATIVE,
    PLAIN_LEVELS,
    Pair,
    control_network,
    draw,
    encrypted,
    example,
    network,
    picture,
    pipeline,
    psnr,
    text_to_image_adapter,
    with_unet,
)  # fmt: skip
from tests.works import works

pytestmark = pytest.mark.slow  # each compiles a UNet, or waits for one

NEAR_DB = 45.0
RESIDUALS = "compile with its residuals among `example_inputs`; it runs at the client"
HALF = torch.zeros(1, 1, 16, 16)  # paint the right half anew
HALF[..., 8:] = 1


def distance(pair: Pair, **arguments: Any) -> float:
    """How near the pictures of the two pipelines are, in dB."""
    return psnr(draw(pair.encrypted, **arguments), draw(pair.plain, **arguments))


@works("pipelines", "`StableDiffusionImg2ImgPipeline`", NEAR_DB)
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_image_to_image(strength: float, text_to_image: Pair) -> None:
    pair = Pair(*(with_unet(pipe, pipe.unet, StableDiffusionImg2ImgPipeline) for pipe in text_to_image))
    settings = {"strength": strength, "num_inference_steps": 4, "negative_prompt": NEGATIVE}
    assert psnr(draw(pair.plain, image=picture(1), **settings), draw(pair.plain, image=picture(2), **settings)) < 40
    assert distance(pair, image=picture(1), **settings) >= NEAR_DB


@works("pipelines", "`AutoPipelineForImage2Image.from_pipe`", NEAR_DB)
def test_a_pipeline_is_made_from_another_one(text_to_image: Pair) -> None:
    pair = Pair(*(AutoPipelineForImage2Image.from_pipe(pipe, requires_safety_checker=False) for pipe in text_to_image))
    assert distance(pair, image=picture(1), num_inference_steps=4, strength=0.5) >= NEAR_DB


@works("pipelines", "`StableDiffusionInpaintPipeline`, 4 channels", NEAR_DB)
def test_inpainting_with_the_unet_of_text_to_image(text_to_image: Pair) -> None:
    pair = Pair(*(with_unet(pipe, pipe.unet, StableDiffusionInpaintPipeline) for pipe in text_to_image))
    assert distance(pair, image=picture(1), mask_image=HALF) >= NEAR_DB


@works("pipelines", "`StableDiffusionInpaintPipeline`, 9 channels", NEAR_DB)
def test_inpainting_with_a_unet_of_nine_channels(tmp_path: Path) -> None:
    pair = encrypted(pipeline(network(in_channels=9), StableDiffusionInpaintPipeline), tmp_path / "nine")
    assert distance(pair, image=picture(1), mask_image=HALF, negative_prompt=NEGATIVE) >= NEAR_DB
    assert distance(pair, image=picture(2), mask_image=1 - HALF, strength=0.6, num_inference_steps=4) >= NEAR_DB


@works("pipelines", "`StableDiffusionInstructPix2PixPipeline`", NEAR_DB)
def test_pictures_changed_by_an_instruction_with_guidance_in_three(tmp_path: Path) -> None:
    unet = network(in_channels=8)
    pair = encrypted(pipeline(unet, StableDiffusionInstructPix2PixPipeline, image_encoder=None), tmp_path / "eight")
    assert psnr(draw(pair.plain, image=picture(1)), draw(pair.plain, image=picture(2))) < 30
    assert distance(pair, image=picture(1), image_guidance_scale=1.5) >= NEAR_DB


@works("pipelines", "`StableDiffusionUpscalePipeline`", NEAR_DB)
def test_upscaling_with_the_noise_level_as_a_label(tmp_path: Path) -> None:
    unet = network(in_channels=7, num_class_embeds=1000)
    parts = {"low_res_scheduler": DDPMScheduler(), "max_noise_level": 350}
    pair = encrypted(pipeline(unet, StableDiffusionUpscalePipeline, **parts), tmp_path / "upscaling")
    assert psnr(draw(pair.plain, image=picture(1, 8)), draw(pair.plain, image=picture(2, 8))) < 40
    for level in (20, 300):
        assert distance(pair, image=picture(1, 8), noise_level=level) >= NEAR_DB


@pytest.fixture(scope="module")
def controlled(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Stable Diffusion with a ControlNet that stays at the client, its residuals inputs of the UNet compiled."""
    unet = network(PLAIN_LEVELS)
    control = control_network(unet)
    call = example()
    with torch.no_grad():
        down, middle = control(**call, controlnet_cond=torch.cat([picture(1), picture(2)]), return_dict=False)
    inputs = call | {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
    folder = tmp_path_factory.mktemp("artifacts") / "controlled"
    return encrypted(pipeline(unet, StableDiffusionControlNetPipeline, controlnet=control), folder, example_inputs=inputs)


CONTROLS: dict[str, dict[str, Any]] = {
    "guidance": {},
    "no guidance": {"guidance_scale": 1.0},
    "two pictures a prompt": {"num_images_per_prompt": 2, "negative_prompt": NEGATIVE},
    "a weaker control": {"controlnet_conditioning_scale": 0.5},
    "control in the first steps only": {"control_guidance_end": 0.5},
    "control without the prompt": {"guess_mode": True},
}


@works("adapters", "ControlNet", NEAR_DB, how=RESIDUALS)
@pytest.mark.parametrize("name", CONTROLS)
def test_control_network(name: str, controlled: Pair) -> None:
    assert distance(controlled, image=picture(1), **CONTROLS[name]) >= NEAR_DB


def test_the_control_changes_the_picture_of_the_plain_pipeline(controlled: Pair) -> None:
    assert psnr(draw(controlled.plain, image=picture(1)), draw(controlled.plain, image=picture(2))) < 40


@works("adapters", "ControlNet, image to image", NEAR_DB, how=RESIDUALS)
def test_control_network_from_a_picture(controlled: Pair) -> None:
    pair = Pair(*(with_unet(pipe, pipe.unet, StableDiffusionControlNetImg2ImgPipeline) for pipe in controlled))
    assert distance(pair, image=picture(2), control_image=picture(1), num_inference_steps=4, strength=0.5) >= NEAR_DB


@works("adapters", "ControlNets, several", NEAR_DB, how=RESIDUALS)
def test_several_control_networks(controlled: Pair) -> None:
    both = [controlled.plain.controlnet] * 2
    pair = Pair(*(with_unet(pipe, pipe.unet, controlnet=both) for pipe in controlled))
    settings = {"image": [picture(1), picture(2)], "controlnet_conditioning_scale": [0.7, 0.4]}
    assert distance(pair, **settings) >= NEAR_DB


@works("adapters", "T2I-Adapter", NEAR_DB, how=RESIDUALS)
def test_text_to_image_adapter(tmp_path: Path) -> None:
    adapter = text_to_image_adapter()
    plain = pipeline(network(ATTENTION_LEVELS), StableDiffusionAdapterPipeline, adapter=adapter)
    with torch.no_grad():
        features = adapter(torch.cat([picture(1), picture(2)]))
    pair = encrypted(plain, tmp_path / "adapted", example_inputs=example() | {"down_intrablock_additional_residuals": features})
    assert psnr(draw(plain, image=picture(1)), draw(plain, image=picture(2))) < 30
    assert distance(pair, image=picture(1), negative_prompt=NEGATIVE) >= NEAR_DB
    assert distance(pair, image=picture(2), adapter_conditioning_scale=0.5) >= NEAR_DB


def test_the_lists_of_a_call_stay_as_they_are(controlled: Pair) -> None:
    call = example()
    down, middle = controlled.plain.controlnet(**call, controlnet_cond=torch.cat([picture(1), picture(2)]), return_dict=False)
    kept = list(down)
    controlled.encrypted.unet(**call, down_block_additional_residuals=kept, mid_block_additional_residual=middle)
    assert [place for place, residual in enumerate(down) if not torch.equal(kept[place], residual)] == []
