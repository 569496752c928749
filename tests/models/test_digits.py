"""The digits models: size, quality, independence of neighbours, and a card that is current."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from hecompile.errors import CompileError
from hecompile.ir.linear import Array
from hecompile.models import digits, load_model, zoo
from hecompile.models.digits.card import card, measure
from hecompile.models.digits.pipeline import ClassConditionalPipeline
from hecompile.models.digits.schedulers import make_scheduler


def draw(labels: list[int], seeds: list[int]) -> Array:
    pipeline = ClassConditionalPipeline(digits.load(), make_scheduler("ddim", dict(digits.SCHEDULER)))
    pipeline.set_progress_bar_config(disable=True)
    images: Array = pipeline(labels, 3, [torch.Generator().manual_seed(seed) for seed in seeds], output_type="np").images
    return images


def test_a_sample_does_not_depend_on_its_neighbours() -> None:
    np.testing.assert_allclose(draw([4, 1, 7], [0, 1, 2])[1:2], draw([1], [1]), atol=1e-4)


def test_pictures_come_as_pil_by_default() -> None:
    pipeline = ClassConditionalPipeline(digits.load(), make_scheduler("ddim", dict(digits.SCHEDULER)))
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline([1], 1).images[0].size == (8, 8)


def test_sizes() -> None:
    parameters = sum(parameter.numel() for parameter in digits.load().parameters())
    assert 140_000 < parameters < 180_000
    for path in digits.FOLDER.glob("*.safetensors"):
        assert path.stat().st_size < 1 << 20


def test_the_zoo() -> None:
    for name in zoo():
        assert not load_model(name).training
    with pytest.raises(CompileError, match="known: digits, digits-unconditional"):
        load_model("nothing")


def test_the_card_is_current() -> None:
    quality = json.loads((digits.FOLDER / "quality.json").read_text())
    assert (digits.FOLDER / "README.md").read_text() == card(quality)
    assert quality["recognised_share"] >= 0.97


@pytest.mark.slow
def test_the_cards_figures_can_be_measured_again() -> None:
    quality = json.loads((digits.FOLDER / "quality.json").read_text())
    again = measure()
    assert again["parameters"] == quality["parameters"]
    assert abs(again["recognised_share"] - quality["recognised_share"]) <= 0.01
    assert again["recognised_share"] >= 0.97
