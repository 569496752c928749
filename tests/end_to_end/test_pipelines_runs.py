"""Prompts that change between calls, and runs that send a prompt once."""

from __future__ import annotations

from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import pytest
import torch

from hecompile.runtime.client import InputError
from tests.end_to_end.cases import CALLBACKS, guidance_ends, prompt_travels
from tests.end_to_end.pipelines import NEGATIVE, OTHER, PROMPT, WIDTH, Pair, draw, psnr
from tests.works import parameters, refused, works

pytestmark = pytest.mark.slow  # each compiles a UNet, or waits for one

NEAR_DB = 45.0
STEPS = (900.0, 700.0, 500.0, 300.0)


@pytest.mark.parametrize("name", parameters("guidance and callbacks", CALLBACKS, NEAR_DB))
def test_a_callback_after_each_step(name: str, text_to_image: Pair) -> None:
    settings: dict[str, Any] = {
        "num_inference_steps": 4,
        "callback_on_step_end": CALLBACKS[name],
        "callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds"],
    }
    expected = draw(text_to_image.plain, **settings)
    assert psnr(expected, draw(text_to_image.plain, num_inference_steps=4)) < 35
    assert psnr(draw(text_to_image.encrypted, **settings), expected) >= NEAR_DB


def prompts() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(14)
    return torch.randn(1, 77, WIDTH, generator=generator), torch.randn(1, 77, WIDTH, generator=generator)


def latents(batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 4, 8, 8, generator=torch.Generator().manual_seed(15))


@pytest.mark.parametrize("same_t", [True, False], ids=["at one time", "at falling times"])
def test_prompts_in_turn(same_t: bool, text_to_image: Pair) -> None:
    times = [(t, t) for t in STEPS] if same_t else [(t, t - 50) for t in STEPS]
    for pair in times:
        for t, prompt in zip(pair, prompts(), strict=True):
            with torch.no_grad():
                expected = text_to_image.plain.unet(latents(), torch.tensor(t), prompt).sample
            assert psnr(text_to_image.encrypted.unet(latents(), t, prompt).sample, expected) >= NEAR_DB


@works("guidance and callbacks", "guidance in two calls a step", NEAR_DB, how="outside `unet.run()`")
def test_guidance_in_two_calls_a_step(text_to_image: Pair) -> None:
    """As loops by hand do it to save memory; each call's noise is that of its own prompt."""
    plain, drawn = latents(), latents()
    with torch.no_grad():
        for t in STEPS:
            without, wanted = (text_to_image.plain.unet(plain, torch.tensor(t), prompt).sample for prompt in prompts())
            plain = plain - 0.2 * (without + 5 * (wanted - without))
            without, wanted = (text_to_image.encrypted.unet(drawn, t, prompt).sample for prompt in prompts())
            drawn = drawn - 0.2 * (without + 5 * (wanted - without))
    assert psnr(drawn, plain) >= NEAR_DB


def test_a_batch_that_changes_between_calls(text_to_image: Pair) -> None:
    both = torch.cat(prompts())
    for t, rows in zip(STEPS, ([0, 1], [1], [0], [1, 0]), strict=True):
        with torch.no_grad():
            expected = text_to_image.plain.unet(latents(len(rows)), torch.tensor(t), both[rows]).sample
        assert psnr(text_to_image.encrypted.unet(latents(len(rows)), t, both[rows]).sample, expected) >= NEAR_DB


def test_another_prompt_within_a_run_is_refused_at_that_call(text_to_image: Pair) -> None:
    unet, (first, second) = text_to_image.encrypted.unet, prompts()
    with unet.run():
        unet(latents(), 900.0, first)
        before = unet.meter.requests
        with pytest.raises(InputError, match="encoder_hidden_states"):
            unet(latents(), 700.0, second)
    assert unet.meter.requests == before


@refused("guidance and callbacks", "a callback changes the prompt within `unet.run()`", "call the pipeline outside `run()`")
def test_a_prompt_that_travels_within_a_run_is_refused(text_to_image: Pair) -> None:
    names = ["latents", "prompt_embeds"]
    with pytest.raises(InputError, match="encoder_hidden_states"), text_to_image.encrypted.unet.run():
        draw(text_to_image.encrypted, callback_on_step_end=prompt_travels, callback_on_step_end_tensor_inputs=names)


def test_guidance_that_ends_within_a_run_is_drawn_right(text_to_image: Pair) -> None:
    settings: dict[str, Any] = {"num_inference_steps": 4, "callback_on_step_end": guidance_ends}
    settings["callback_on_step_end_tensor_inputs"] = ["prompt_embeds"]
    with text_to_image.encrypted.unet.run():
        result = draw(text_to_image.encrypted, **settings)
    assert psnr(result, draw(text_to_image.plain, **settings)) >= NEAR_DB


@works("guidance and callbacks", "`with pipe.unet.run(): pipe(...)`", how="the prompt is sent once")
def test_a_run_sends_the_prompt_once_and_draws_the_same(text_to_image: Pair) -> None:
    unet, requests = text_to_image.encrypted.unet, [text_to_image.encrypted.unet.meter.requests]

    def counts(pipe: Any, step: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
        requests.append(unet.meter.requests)
        return {}

    with unet.run():
        result = draw(text_to_image.encrypted, PROMPT, num_inference_steps=3, callback_on_step_end=counts)
    first, second, third = (after - before for before, after in pairwise(requests))
    assert first > second
    assert second == third
    assert torch.equal(result, draw(text_to_image.encrypted, PROMPT, num_inference_steps=3))


def test_runs_follow_each_other_with_other_prompts(text_to_image: Pair) -> None:
    for prompt in (PROMPT, OTHER):
        with text_to_image.encrypted.unet.run():
            result = draw(text_to_image.encrypted, prompt)
        assert psnr(result, draw(text_to_image.plain, prompt)) >= NEAR_DB


def test_a_run_after_a_refused_one_is_right(text_to_image: Pair) -> None:
    unet, (first, second) = text_to_image.encrypted.unet, prompts()
    with unet.run():
        unet(latents(), 900.0, first)
        with pytest.raises(InputError):
            unet(latents(), 700.0, second)
    with torch.no_grad():
        expected = text_to_image.plain.unet(latents(), torch.tensor(500.0), second).sample
    with unet.run():
        assert psnr(unet(latents(), 500.0, second).sample, expected) >= NEAR_DB


@works("guidance and callbacks", "a batch above `max_batch`", NEAR_DB, how="is cut into several calls")
@pytest.mark.parametrize("in_run", [True, False], ids=["in a run", "call by call"])
def test_batches_above_the_largest_are_cut(in_run: bool, text_to_image: Pair) -> None:
    """Nine pictures with guidance are a batch of 18 where 16 is the most."""
    settings: dict[str, Any] = {"num_images_per_prompt": 9, "negative_prompt": NEGATIVE}
    with text_to_image.encrypted.unet.run() if in_run else nullcontext():
        result = draw(text_to_image.encrypted, **settings)
    assert psnr(result, draw(text_to_image.plain, **settings)) >= NEAR_DB
