"""Weights that pipelines add to a model: LoRA, IP-Adapter, textual inversion. They are loaded before compiling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from hecompile.runtime.client import InputError
from tests.end_to_end.adapters import embeddings, image, low_rank, with_image_encoder
from tests.end_to_end.pipelines import (
    NEGATIVE,
    OTHER,
    WIDTH,
    Pair,
    detailed_image_prompt_adapter,
    draw,
    encrypted,
    example,
    image_prompt_adapter,
    network,
    pipeline,
    psnr,
)  # fmt: skip
from tests.works import works

pytestmark = pytest.mark.slow  # each compiles a UNet, or waits for one

NEAR_DB = 45.0
BEFORE = "load it before compiling"


@works("adapters", "LoRA, fused", NEAR_DB, how=BEFORE)
def test_a_low_rank_adapter_that_is_fused(tmp_path: Path) -> None:
    plain = pipeline(network())
    before = draw(plain)
    low_rank(plain)
    expected = draw(plain)
    assert psnr(expected, before) < 35
    plain.unet.fuse_lora()
    pair = encrypted(plain, tmp_path / "fused")
    assert psnr(draw(pair.encrypted), expected) >= NEAR_DB


@works("adapters", "LoRA, several, active and not fused", NEAR_DB, how=BEFORE)
def test_two_low_rank_adapters_that_are_not_fused(tmp_path: Path) -> None:
    plain = pipeline(network())
    before = draw(plain)
    low_rank(plain)
    low_rank(plain, "second", 10)
    plain.set_adapters(["default", "second"], [1.0, 0.5])
    expected = draw(plain)
    assert psnr(expected, before) < 35
    pair = encrypted(plain, tmp_path / "active")
    assert psnr(draw(pair.encrypted), expected) >= NEAR_DB


@works("adapters", "textual inversion", NEAR_DB, how="the text encoder is the client's: load it whenever")
def test_textual_inversion(tmp_path: Path, text_to_image: Pair) -> None:
    learned = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(11))
    save_file({"<cat-toy>": learned}, tmp_path / "learned.safetensors")
    plain = pipeline(text_to_image.plain.unet)
    plain.load_textual_inversion(tmp_path / "learned.safetensors", token="<cat-toy>", local_files_only=True)
    words = {"text_encoder": plain.text_encoder, "tokenizer": plain.tokenizer}
    drawn = pipeline(text_to_image.encrypted.unet, **words)
    expected = draw(plain, "a <cat-toy>")
    assert psnr(draw(drawn, "a <cat-toy>"), expected) >= NEAR_DB
    assert psnr(draw(text_to_image.plain, "a <cat-toy>"), expected) < 35


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Stable Diffusion with two IP-Adapters in its UNet, compiled after they were loaded."""
    plain = with_image_encoder(network())
    weights = [image_prompt_adapter(plain.unet, seed) for seed in (6, 7)]
    plain.load_ip_adapter(weights, subfolder=["", ""], weight_name=["", ""], image_encoder_folder=None)
    plain.set_ip_adapter_scale([0.8, 0.5])
    inputs = example() | {"added_cond_kwargs": {"image_embeds": [embeddings(seed) for seed in (1, 2)]}}
    return encrypted(plain, tmp_path_factory.mktemp("artifacts") / "pictured", example_inputs=inputs)


IMAGES: dict[str, dict[str, Any]] = {
    "guidance": {},
    "no guidance": {"guidance_scale": 1.0},
    "two pictures a prompt": {"num_images_per_prompt": 2, "negative_prompt": NEGATIVE},
}


@pytest.mark.parametrize("places", [(2, 3), (1, 2)], ids=["the first", "the second"])
def test_an_image_prompt_changes_the_picture_of_the_plain_pipeline(places: tuple[int, int], pictured: Pair) -> None:
    first = draw(pictured.plain, ip_adapter_image=[image(1), image(3)])
    assert psnr(draw(pictured.plain, ip_adapter_image=[image(place) for place in places]), first) < 35


@works("adapters", "IP-Adapters, several", NEAR_DB, how=BEFORE)
@pytest.mark.parametrize("name", IMAGES)
def test_image_prompts(name: str, pictured: Pair) -> None:
    results = [draw(pipe, ip_adapter_image=[image(1), image(2)], **IMAGES[name]) for pipe in pictured]
    assert psnr(results[1], results[0]) >= NEAR_DB


@works("adapters", "IP-Adapter with embeddings in place of pictures", NEAR_DB, how=BEFORE)
def test_image_prompts_as_embeddings(pictured: Pair) -> None:
    results = [draw(pipe, OTHER, ip_adapter_image_embeds=[embeddings(3), embeddings(4)]) for pipe in pictured]
    assert psnr(results[1], results[0]) >= NEAR_DB


def test_a_run_sends_image_prompts_once(pictured: Pair) -> None:
    expected = draw(pictured.encrypted, ip_adapter_image_embeds=[embeddings(3), embeddings(4)])
    with pictured.encrypted.unet.run():
        result = draw(pictured.encrypted, ip_adapter_image_embeds=[embeddings(3), embeddings(4)])
    assert torch.equal(result, expected)


def test_one_image_prompt_where_two_were_compiled_in_is_refused(pictured: Pair) -> None:
    with pytest.raises(InputError, match=r"image_embeds"):
        pictured.encrypted.unet(**example(), added_cond_kwargs={"image_embeds": [embeddings(3)]})


@works("adapters", "IP-Adapter Plus", NEAR_DB, how=BEFORE)
@pytest.mark.slow
def test_a_detailed_image_prompt(tmp_path: Path) -> None:
    plain = with_image_encoder(network())
    plain.load_ip_adapter(detailed_image_prompt_adapter(plain.unet), subfolder="", weight_name="", image_encoder_folder=None)
    patches = torch.randn(2, 1, 17, WIDTH, generator=torch.Generator().manual_seed(5))
    pair = encrypted(plain, tmp_path / "detailed", example_inputs=example() | {"added_cond_kwargs": {"image_embeds": [patches]}})
    results = [draw(pipe, ip_adapter_image=image(1)) for pipe in pair]
    assert psnr(results[0], draw(plain, ip_adapter_image=image(2))) < 35
    assert psnr(results[1], results[0]) >= NEAR_DB
