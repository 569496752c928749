"""The page in a browser: a caption becomes a picture through a server in a second process, and the server saw none of it."""

from __future__ import annotations

import base64
import os
import signal
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

import hecompile
from hecompile.demo.drawing import Studio
from hecompile.demo.tapped import Tap
from hecompile.models.shapes import GUIDANCE, STEPS, load_pipeline
from hecompile.models.shapes.reader import agreement, read
from hecompile.models.shapes.scenes import Scene, Thing
from hecompile.options import CompileOptions
from tests.artifacts import compile_once
from tests.browser import DESKTOP, PHONE, needs_chromium, opened_page, photograph
from tests.demo.conftest import page_at_work

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.slow, needs_chromium]

SCENE = Scene("yellow", (Thing("circle", "red", "small"), Thing("square", "blue", "large")), "above")
PATIENCE_MS = 120_000


@pytest.fixture(scope="module")
def at_work(folder: Path) -> Iterator[tuple[str, Studio]]:
    with page_at_work(folder) as (address, studio):
        yield address, studio


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the wiretap keeps of every request that is made from now on."""
    kept, send = list[bytes](), Tap.send

    def sent(self: Tap, *arguments: Any) -> None:
        send(self, *arguments)
        kept.append(self.request)

    monkeypatch.setattr(Tap, "send", sent)
    return kept


@pytest.fixture(scope="module")
def in_clear() -> tuple[np.ndarray[Any, Any], list[np.ndarray[Any, Any]]]:
    """The same caption and seed drawn by the simulation in the clear: its picture (32, 32, 3), and its latents of every step."""
    artifact = compile_once("shapes", CompileOptions(backend="clear")).artifact
    assert artifact is not None
    latents = list[np.ndarray[Any, Any]]()

    def keep(pipe: Any, step: int, timestep: Any, values: dict[str, torch.Tensor]) -> dict[str, Any]:
        latents.append(values["latents"].numpy().copy())
        return {}

    pipe = load_pipeline(unet=hecompile.load(artifact, policy="simulation"))
    images = pipe(
        SCENE.caption, num_inference_steps=STEPS, guidance_scale=GUIDANCE, generator=torch.Generator().manual_seed(0),
        callback_on_step_end=keep, output_type="np",
    ).images  # fmt: skip
    return (images[0] * 255).round().astype(np.uint8), latents


def picture_of(image: Locator) -> np.ndarray[Any, Any]:
    """The pixels of a picture whose address is the picture itself."""
    address = image.get_attribute("src")
    assert address is not None
    return np.asarray(Image.open(BytesIO(base64.b64decode(address.partition(",")[2]))))


def draw(page: Page) -> None:
    """Press the button, and wait until the picture is there."""
    page.get_by_role("button", name="Draw", exact=True).click()
    page.locator("#sentence:visible").wait_for(timeout=PATIENCE_MS)
    page.locator("#draw:enabled").wait_for(timeout=PATIENCE_MS)


def show_others(page: Page, count: int) -> None:
    """Turn the switch on, and wait for so many policies."""
    page.get_by_role("switch").check()
    page.locator("#view-list figure").nth(count - 1).wait_for(timeout=PATIENCE_MS)
    page.locator("#draw:enabled").wait_for(timeout=PATIENCE_MS)


def trace(latent: np.ndarray[Any, Any], request: bytes) -> bool:
    """Whether four neighbouring entries of a latent lie in a request as float32, or eight as float16."""
    for kind, length in ((np.float32, 16), (np.float16, 16)):
        data = latent.astype(kind).tobytes()
        if any(data[start : start + length] in request for start in range(0, len(data) - length, length)):
            return True
    return False


def test_a_caption_is_drawn_and_the_server_saw_none_of_it(
    at_work: tuple[str, Studio], requests: list[bytes], in_clear: tuple[Any, list[Any]], tmp_path: Path
) -> None:
    with opened_page(DESKTOP) as (page, faults):
        page.goto(at_work[0])
        page.get_by_label("Caption", exact=True).fill(SCENE.caption)
        draw(page)
        drawn, seen = picture_of(page.locator("#here")), picture_of(page.locator("#there"))
        steps = [picture_of(image) for image in page.locator("#strip img").all()]
        figures = {name: page.locator(f"#{name}").inner_text() for name in ("requests", "bytes_up", "bytes_down", "seconds")}
        sentence = page.locator("#sentence").inner_text()
        show_others(page, 2)
        photograph(page, "page-desktop", tmp_path, whole=True)
        assert faults == []
    picture, latents = in_clear
    assert np.array_equal(drawn, picture)
    assert agreement(SCENE, read(drawn))["all"] == 1
    assert len(steps) == 2 * STEPS  # at every step what is seen here, and what there
    assert np.array_equal(steps[-2], drawn)
    assert figures["requests"] == str(len(requests))
    assert figures["bytes_up"] == f"{sum(map(len, requests)) / 1e6:.1f} MB"
    assert "nothing about the caption or the picture" in sentence
    assert any(seen.tobytes() in request for request in requests)  # the picture at the server is bytes that were sent
    everything = b"".join(requests)
    assert not any(trace(latent, everything) for latent in latents)
    assert trace(latents[0], everything[:1000] + latents[0].tobytes())  # it would be noticed
    assert SCENE.caption.encode() not in everything
    words = max(requests, key=len)
    assert len(zlib.compress(words)) > 0.99 * len(words)  # no pattern in them either


def test_every_step_can_be_looked_at_with_the_keyboard(at_work: tuple[str, Studio]) -> None:
    with opened_page(DESKTOP) as (page, _):
        page.goto(at_work[0])
        draw(page)
        last = picture_of(page.locator("#here"))
        page.locator("#strip button").first.focus()
        page.keyboard.press("Enter")
        assert page.locator("#strip button[aria-pressed=true]").inner_text().strip() == "step 1"
        assert not np.array_equal(picture_of(page.locator("#here")), last)
        assert page.locator("#here").get_attribute("alt") == "The picture after step 1 of 4"


def test_enter_in_the_caption_draws(at_work: tuple[str, Studio]) -> None:
    with opened_page(DESKTOP) as (page, _):
        page.goto(at_work[0])
        page.get_by_label("Caption", exact=True).press("Enter")
        page.locator("#sentence:visible").wait_for(timeout=PATIENCE_MS)


def test_the_switch_shows_other_policies_at_every_step(at_work: tuple[str, Studio], requests: list[bytes]) -> None:
    with opened_page(DESKTOP) as (page, _):
        page.goto(at_work[0])
        draw(page)
        assert page.locator("#views").is_hidden()
        sent = len(requests)
        show_others(page, 2)
        assert len(requests) == sent  # nothing more was sent
        assert "Simulation at the client: these bytes were not sent" in page.locator("#views").inner_text()
        assert page.locator("#view-list figcaption b").all_inner_texts() == ["he-diffusion", "min-distortion"]
        entries, channels = (picture_of(image) for image in page.locator("#view-list img").all())
        drawn = picture_of(page.locator("#here"))
        page.locator("#strip button").first.click()
        assert "stays at the client" in page.locator("#view-list figure").first.inner_text()
        earlier = picture_of(page.locator("#view-list img").first)
    assert entries.shape == (32, 32, 4)
    assert 0 < (entries[..., 3] == 255).mean() < 0.5  # a part is seen
    bright = entries[..., :3].astype(float)[entries[..., 3] == 255]
    own = drawn.astype(float)[entries[..., 3] == 255]
    known = bright != 128  # colours that are shown
    assert np.corrcoef(bright[known], own[known])[0, 1] > 0.9  # and it is that picture
    assert channels.shape == earlier.shape == (8 * 9 - 1, 16 * 9 - 1, 4)
    assert 0 < (channels[..., 3] == 255).mean() < 1
    assert not np.array_equal(channels, earlier)


def test_min_distortion_is_drawn_and_shows_what_was_sent(at_work: tuple[str, Studio], requests: list[bytes]) -> None:
    with opened_page(DESKTOP) as (page, faults):
        page.goto(at_work[0])
        page.get_by_role("radio", name="min-distortion").check()
        assert page.get_by_label("Seed").is_disabled()
        draw(page)
        sent = picture_of(page.locator("#sent-picture"))
        assert "no cryptographic guarantee" in page.locator("#sentence").inner_text()
        assert page.locator("#sent").inner_text().startswith("Sent in the clear at this step")
        drawn = picture_of(page.locator("#here"))
        show_others(page, 1)
        assert page.locator("#view-list figcaption b").all_inner_texts() == ["he-diffusion"]
        assert faults == []
    assert agreement(SCENE, read(drawn))["all"] == 1
    assert 0 < (sent[..., 3] == 255).mean() < 1
    assert requests


def test_a_server_that_ends_while_it_draws_is_told_in_words_and_replaced(at_work: tuple[str, Studio]) -> None:
    address, studio = at_work
    with opened_page(DESKTOP) as (page, _):
        page.goto(address)
        page.get_by_label("Steps", exact=True).fill("25")
        page.get_by_role("button", name="Draw", exact=True).click()
        page.locator("#strip button").first.wait_for(timeout=PATIENCE_MS)
        os.kill(studio.servers["strict"], signal.SIGKILL)
        message = page.get_by_role("alert")
        message.filter(has_text="The server is gone").wait_for(timeout=PATIENCE_MS)
        assert "draw again, and another one is started" in message.inner_text()
        assert page.locator("#progress").inner_text() == "The drawing was not finished."
        page.get_by_label("Steps", exact=True).fill("4")
        draw(page)
        assert message.inner_text() == ""
        assert agreement(SCENE, read(picture_of(page.locator("#here"))))["all"] == 1


def test_a_caption_that_is_too_long_for_the_model_is_told_in_words(at_work: tuple[str, Studio]) -> None:
    with opened_page(DESKTOP) as (page, _):
        page.goto(at_work[0])
        page.get_by_label("Caption", exact=True).fill("an extraordinarily meticulous watercolour")
        page.get_by_role("button", name="Draw", exact=True).click()
        page.get_by_role("alert").filter(has_text="this small model reads 14").wait_for(timeout=PATIENCE_MS)


def test_the_page_fits_a_phone(at_work: tuple[str, Studio], tmp_path: Path) -> None:
    with opened_page(PHONE) as (page, faults):
        page.goto(at_work[0])
        draw(page)
        show_others(page, 2)
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE[0]
        photograph(page, "page-phone", tmp_path, whole=True)
        assert faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(at_work: tuple[str, Studio], scheme: Any) -> None:
    with opened_page(DESKTOP) as (page, _):
        page.emulate_media(color_scheme=scheme)
        page.goto(at_work[0])
        for text, ground in (("body", "html"), ("#words", "#wish"), ("#draw", "#draw"), ("#progress", "#drawing")):
            style = "(element) => getComputedStyle(element)"
            ink = page.locator(text).evaluate(f"{style}.color")
            paper = page.locator(ground).evaluate(f"{style}.backgroundColor")
            assert contrast(ink, paper) >= 4.5, text


def contrast(*colours: str) -> float:
    """The ratio of two colours' luminances, as WCAG 2 has it: at least 4.5 for text."""
    lights = []
    for colour in colours:
        parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)
