"""What a compiled UNet is called with: other sizes and tokens, masks, and arguments that were not compiled in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import hecompile
from hecompile.runtime.client import InputError
from tests.end_to_end.pipelines import WIDTH, Pair, compiled, draw, example, network, pipeline, psnr, with_unet
from tests.works import refused, works

pytestmark = pytest.mark.slow  # each compiles a UNet, or waits for one

NEAR_DB = 45.0


@pytest.fixture(scope="module")
def sized(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """A pipeline for pictures of 32x16 and prompts of 20 tokens."""
    plain = pipeline(network())
    plain.tokenizer.model_max_length = 20
    folder = tmp_path_factory.mktemp("artifacts") / "sized"
    hecompile.compile(plain, folder, options=hecompile.CompileOptions(backend="clear", size="16x8", tokens=20))
    return Pair(plain, with_unet(plain, hecompile.load(folder, policy="simulation")))


@works("sizes and tokens", "the size and the tokens that were compiled in", NEAR_DB, how="`compile(..., size=(16, 8), tokens=20)`")
def test_a_picture_of_another_size_with_fewer_tokens(sized: Pair) -> None:
    results = [draw(pipe, height=32, width=16) for pipe in sized]
    assert results[0].shape == (1, 3, 32, 16)
    assert psnr(results[1], results[0]) >= NEAR_DB


def test_size_and_tokens_are_keywords_of_compile_too(sized: Pair, tmp_path: Path) -> None:
    unet = compiled(sized.plain, tmp_path / "keywords", size=(16, 8), tokens=20)
    pipe = with_unet(sized.plain, unet)
    assert torch.equal(draw(pipe, height=32, width=16), draw(sized.encrypted, height=32, width=16))


@refused("sizes and tokens", "another size", "compile with `size=(height, width)`, in latent pixels")
@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 8), (16, 32)])
def test_a_picture_of_another_size_is_refused_with_the_way_out(height: int, width: int, text_to_image: Pair) -> None:
    with pytest.raises(InputError, match=r"size="):
        draw(text_to_image.encrypted, height=height, width=width)


@refused("sizes and tokens", "another number of tokens", "compile with `tokens=`")
@pytest.mark.parametrize("tokens", [1, 50, 154])
def test_another_number_of_tokens_is_refused_with_the_way_out(tokens: int, text_to_image: Pair) -> None:
    embeds = torch.randn(1, tokens, WIDTH, generator=torch.Generator().manual_seed(16))
    with pytest.raises(InputError, match=r"tokens="):
        draw(text_to_image.encrypted, None, prompt_embeds=embeds, negative_prompt_embeds=embeds)


def test_a_refused_size_sends_nothing(text_to_image: Pair) -> None:
    before = text_to_image.encrypted.unet.meter.requests
    with pytest.raises(InputError):
        draw(text_to_image.encrypted, height=32, width=32)
    assert text_to_image.encrypted.unet.meter.requests == before


@works("sizes and tokens", "a mask over the prompt", NEAR_DB, how="compile with `encoder_attention_mask` among `example_inputs`")
def test_a_mask_over_the_prompt(tmp_path: Path) -> None:
    model = network()
    mask = torch.ones(2, 77, dtype=torch.bool)
    mask[:, 9:] = False
    unet = compiled(model, tmp_path / "masked", example_inputs=example() | {"encoder_attention_mask": mask})
    for kept in (9, 3, 77):
        mask = (torch.arange(77) < kept).expand(2, 77)
        with torch.no_grad():
            expected = model(**example(), encoder_attention_mask=mask).sample
        assert psnr(unet(**example(), encoder_attention_mask=mask).sample, expected) >= NEAR_DB


EXTRA: dict[str, dict[str, Any]] = {
    "timestep_cond": {"timestep_cond": torch.zeros(2, 16)},
    "encoder_attention_mask": {"encoder_attention_mask": torch.ones(2, 77)},
    "attention_mask": {"attention_mask": torch.ones(2, 64)},
    "class_labels": {"class_labels": torch.zeros(2, dtype=torch.int64)},
    "added_cond_kwargs": {"added_cond_kwargs": {"text_embeds": torch.zeros(2, WIDTH)}},
    "cross_attention_kwargs": {"cross_attention_kwargs": {"ip_adapter_masks": [torch.ones(1, 1, 8, 8)]}},
    "gligen": {"cross_attention_kwargs": {"gligen": {"boxes": torch.zeros(2, 1, 4)}}},
    "down_block_additional_residuals": {"down_block_additional_residuals": (torch.zeros(2, 32, 8, 8),)},
    "mid_block_additional_residual": {"mid_block_additional_residual": torch.zeros(2, 32, 8, 8)},
    "down_intrablock_additional_residuals": {"down_intrablock_additional_residuals": [torch.zeros(2, 32, 8, 8)]},
}


@refused("sizes and tokens", "arguments that were not compiled in", "the error names them; add them to `example_inputs`")
@pytest.mark.parametrize("name", EXTRA)
def test_an_argument_that_was_not_compiled_in_is_refused(name: str, text_to_image: Pair) -> None:
    with pytest.raises(InputError, match=next(iter(EXTRA[name]))):
        text_to_image.encrypted.unet(**example(), **EXTRA[name])


@refused("adapters", "another LoRA scale in `cross_attention_kwargs`", "set the scale before compiling")
def test_a_scale_of_attention_is_refused_in_a_pipeline(text_to_image: Pair) -> None:
    with pytest.raises(InputError, match="cross_attention_kwargs"):
        draw(text_to_image.encrypted, cross_attention_kwargs={"scale": 0.5})


NOTHING: dict[str, dict[str, Any]] = {
    "None": {"cross_attention_kwargs": None, "timestep_cond": None, "added_cond_kwargs": None, "encoder_attention_mask": None},
    "empty": {"cross_attention_kwargs": {}, "added_cond_kwargs": {}},
}


@pytest.mark.parametrize("name", NOTHING)
def test_arguments_without_content_are_as_none(name: str, text_to_image: Pair) -> None:
    unet = text_to_image.encrypted.unet
    expected = unet(**example()).sample
    assert torch.equal(unet(**example(), **NOTHING[name]).sample, expected)


def test_residuals_that_were_compiled_in_are_missed_by_name(tmp_path: Path) -> None:
    inputs = example() | {"mid_block_additional_residual": torch.randn(2, 32, 8, 8)}
    inputs |= {"down_block_additional_residuals": (torch.randn(2, 32, 8, 8), torch.randn(2, 32, 8, 8))}
    unet = compiled(network(), tmp_path / "residuals", example_inputs=inputs)
    with pytest.raises(InputError, match="down_block_additional_residuals"):
        unet(**inputs | {"down_block_additional_residuals": None})
    with pytest.raises(InputError, match="down_block_additional_residuals"):
        unet(**inputs | {"down_block_additional_residuals": inputs["down_block_additional_residuals"][:1]})
