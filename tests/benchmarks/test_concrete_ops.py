"""The table of ops, generated and compared, and the rewrites in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.concrete_ops import rewrites

DOCUMENT = Path(__file__).parents[2] / "docs" / "concrete-ops.md"


@pytest.fixture
def value() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(1, 2, 4, 4)


def agree(first: torch.Tensor, second: torch.Tensor) -> None:
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)


def test_concat_and_conv_is_a_sum_of_two_convs(value: torch.Tensor) -> None:
    original = rewrites.ConcatConv(nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(5, 4, 3, padding=1))
    agree(rewrites.SummedConv(original)(value), original(value))


def test_nearest_upsampling_is_cat_and_reshape(value: torch.Tensor) -> None:
    assert torch.equal(rewrites.NearestByCat()(value), nn.Upsample(scale_factor=2, mode="nearest")(value))


def test_a_transposed_conv_is_a_conv_per_phase(value: torch.Tensor) -> None:
    original = nn.ConvTranspose2d(2, 3, 4, stride=2, padding=1)
    agree(nn.functional.pixel_shuffle(rewrites.TransposedByPhases(original)(value), 2), original(value))


def test_a_frozen_norm_folds_into_the_conv(value: torch.Tensor) -> None:
    norm, conv = nn.GroupNorm(1, 2), nn.Conv2d(2, 3, 3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    mean, deviation = value.mean().expand(2), value.var(unbiased=False).add(norm.eps).sqrt().expand(2)
    agree(rewrites.FoldedNorm(norm, conv, mean, deviation)(value), conv(norm(value)))


def test_the_document_has_every_op_and_names_what_rewrites_rescue() -> None:
    rows = [line.split(" | ") for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 25
    rescued = {row[0].removeprefix("| ") for row in rows if "accepted" not in row[1] and row[4] == "accepted"}
    assert rescued == {"transposed conv", "nearest upsampling", "concat, conv", "GroupNorm, conv"}
    assert "tmp" not in DOCUMENT.read_text()


@pytest.mark.slow
@pytest.mark.fhe
def test_the_document_is_what_concrete_ml_says_today() -> None:
    from benchmarks.concrete_ops.table import render, table

    assert render(table()) == DOCUMENT.read_text()
