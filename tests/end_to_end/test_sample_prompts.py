"""`hecompile sample DIR "a prompt"`: a compiled UNet within its stock pipeline, with pipelines of random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import hecompile
from hecompile.cli.app import app
from hecompile.errors import CompileError
from hecompile.ir.linear import Array
from hecompile.runtime.service import load_service
from hecompile.runtime.transports.base import LocalTransport
from hecompile.sampling.pictures import picture_row
from hecompile.sampling.prompts import PromptRequest, draw_prompts
from tests.end_to_end.pipelines import NEGATIVE, OTHER, PROMPT, network, pipeline, with_unet

pytestmark = pytest.mark.slow

REQUEST = PromptRequest((PROMPT, OTHER), NEGATIVE, steps=2, guidance=3.0, seed=5)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`pipeline` as diffusers saves it, its UNet compiled to `unet.he`, and `saved`, a pipeline saved with the encrypted UNet."""
    root = tmp_path_factory.mktemp("prompts")
    pipe = pipeline(network())
    pipe.save_pretrained(root / "pipeline")
    hecompile.compile(pipe.unet, root / "unet.he", options=hecompile.CompileOptions(backend="clear"))
    with_unet(pipe, hecompile.load(root / "unet.he", policy="simulation")).save_pretrained(root / "saved")
    return root


@pytest.fixture(scope="module")
def expected() -> Array:
    """The plain pipeline's pictures of the same request, as they lie in the file."""
    generators = [torch.Generator().manual_seed(5 + place) for place in range(2)]
    drawn = pipeline(network())(
        [PROMPT, OTHER], negative_prompt=[NEGATIVE] * 2, num_inference_steps=2, guidance_scale=3.0, generator=generators,
        output_type="np",
    )  # fmt: skip
    return np.asarray(picture_row(drawn.images), np.float64)


def error_of(path: Path, expected: Array) -> float:
    """The mean difference of two pictures in steps of 255."""
    return float(np.abs(np.asarray(Image.open(path), np.float64) - expected).mean())


def test_a_picture_for_each_prompt_as_the_plain_pipeline_draws_it(folders: Path, tmp_path: Path, expected: Array) -> None:
    figures = draw_prompts(
        folders / "unet.he", None, REQUEST, tmp_path / "x.png", folders / "pipeline", "simulation", progress=False
    )
    assert error_of(tmp_path / "x.png", expected) < 2
    assert figures["prompts"] == [PROMPT, OTHER]
    assert figures["requests"]


def test_pictures_are_in_colour_and_large_enough_to_be_seen(expected: Array) -> None:
    assert expected.shape == (18 * 16, 2 * 18 * 16, 3)


def test_a_saved_pipeline_needs_no_other_folder(folders: Path, tmp_path: Path, expected: Array) -> None:
    server = LocalTransport(load_service(folders / "unet.he"))
    draw_prompts(folders / "saved", server, REQUEST, tmp_path / "x.png", policy="simulation", progress=False)
    assert error_of(tmp_path / "x.png", expected) < 2


def test_the_seed_of_the_second_picture_is_the_next(folders: Path, tmp_path: Path) -> None:
    for name, request in (
        ("two", PromptRequest((PROMPT, OTHER), steps=1, seed=5)),
        ("one", PromptRequest((OTHER,), steps=1, seed=6)),
    ):
        draw_prompts(
            folders / "unet.he", None, request, tmp_path / f"{name}.png", folders / "pipeline", "simulation", progress=False
        )
    two, one = (np.asarray(Image.open(tmp_path / f"{name}.png"), np.float64) for name in ("two", "one"))
    assert np.abs(two[:, one.shape[1] :] - one).mean() < 2


@pytest.mark.parametrize(
    ("source", "arguments", "reason"),
    [
        ("unet.he", [PROMPT], "name that folder: --pipeline"),
        ("unet.he", [PROMPT, "--pipeline", "nosuch"], "not the folder of a pipeline"),
        ("unet.he", [PROMPT, "--label", "3"], "--label has no effect with a prompt"),
        ("unet.he", [PROMPT, "--scheduler", "ddim"], "--scheduler has no effect with a prompt"),
        ("unet.he", ["--guidance", "2"], "--guidance has no effect without a prompt"),
        ("unet.he", ["--label", "3"], "accepts no labels"),
        ("pipeline", [PROMPT], "the unet of this pipeline is not encrypted"),
        ("unet.he", [PROMPT, "-o", "x.txt"], "'.txt' is not the suffix of a picture file"),
    ],
)
def test_what_makes_no_sense_is_refused_and_draws_nothing(
    folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, arguments: list[str], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["sample", str(folders / source), *arguments, "--policy", "simulation"])
    assert isinstance(result.exception, CompileError)
    assert reason in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_label_model_takes_no_prompt(digits_clear: Path, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"accepts no prompts[\s\S]*--label 7"):
        draw_prompts(digits_clear, None, PromptRequest(("seven",)), tmp_path / "x.png", policy="simulation")


def test_the_command_draws_with_the_options(folders: Path, tmp_path: Path, expected: Array) -> None:
    options = ["--negative", NEGATIVE, "--steps", "2", "--guidance", "3", "--seed", "5", "--policy", "simulation", "--json"]
    files = ["--pipeline", str(folders / "pipeline"), "-o", str(tmp_path / "x.png")]
    result = CliRunner().invoke(app, ["sample", str(folders / "unet.he"), PROMPT, OTHER, *options, *files])
    assert result.exit_code == 0, result.exception
    assert error_of(tmp_path / "x.png", expected) < 2
