"""Pipelines around an encrypted UNet: put together by `from_pretrained`, saved, and loaded again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline

import hecompile
from hecompile.errors import CompileError
from hecompile.options import CompileOptions
from hecompile.runtime.client import EncryptedUNet
from hecompile.runtime.refusals import UnsupportedError
from tests.artifacts import compile_once
from tests.end_to_end.pipelines import Pair, draw, network, pipeline
from tests.works import own_work, refused, works

pytestmark = pytest.mark.slow  # each waits for a compiled UNet

SAVING = "saving and loading"
HECOMPILE = [sys.executable, "-c", "from hecompile.cli import main; main()"]


@pytest.fixture(scope="module")
def artifact() -> Path:
    """The UNet of `text_to_image` under `bfv`."""
    compiled = compile_once(network, CompileOptions(backend="bfv"))
    assert compiled.artifact is not None
    return compiled.artifact


@pytest.fixture(scope="module")
def served(artifact: Path) -> Iterator[str]:
    """The address of a server of that artifact, in a process of its own."""
    process = subprocess.Popen([*HECOMPILE, "serve", str(artifact), "--port", "0", "--json"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield json.loads(process.stdout.readline())["url"]
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def saved(text_to_image: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plain pipeline in a folder."""
    folder = tmp_path_factory.mktemp("plain")
    text_to_image.plain.save_pretrained(folder)
    return folder


def without_checker(folder: Path, kind: Any = DiffusionPipeline, **parts: Any) -> Any:
    pipe = kind.from_pretrained(folder, safety_checker=None, feature_extractor=None, requires_safety_checker=False, **parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@works(
    SAVING, "`DiffusionPipeline.from_pretrained(folder, unet=hecompile.load(...))`", how="equal to `pipe.unet = ...`, bit for bit"
)
@pytest.mark.parametrize("kind", [DiffusionPipeline, StableDiffusionPipeline])
def test_a_pipeline_takes_an_encrypted_unet(kind: Any, saved: Path, text_to_image: Pair) -> None:
    pipe = without_checker(saved, kind, unet=text_to_image.encrypted.unet)
    assert torch.equal(draw(pipe), draw(text_to_image.encrypted))


@works(SAVING, "`pipe.save_pretrained(folder)`", how="with the client's half of the UNet and its server's address")
def test_a_pipeline_is_saved_with_its_encrypted_unet(artifact: Path, tmp_path: Path) -> None:
    pipeline(hecompile.load(artifact)).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["unet"] == ["hecompile", "EncryptedUNet"]
    assert {path.name for path in (tmp_path / "unet").iterdir()} == {"manifest.json", "client", "config.json"}


@works(SAVING, "`DiffusionPipeline.from_pretrained(folder)` of what was saved", how="asks the server that it was saved with")
def test_a_saved_pipeline_draws_the_same(artifact: Path, served: str, tmp_path: Path) -> None:
    with hecompile.load(artifact, served) as unet:
        pipe = pipeline(unet)
        pipe.save_pretrained(tmp_path)
        again = without_checker(tmp_path)
        assert isinstance(again.unet, EncryptedUNet)
        assert torch.equal(draw(again), draw(pipe))
        again.unet.close()


@refused(SAVING, "a saved pipeline whose server is not told", "`... holds only the client's half; help: name its server`")
def test_a_saved_pipeline_without_a_server(artifact: Path, tmp_path: Path) -> None:
    pipeline(hecompile.load(artifact)).save_pretrained(tmp_path)
    with pytest.raises(CompileError, match="name its server"):
        without_checker(tmp_path)


@works(SAVING, "`EncryptedUNet.from_pretrained(folder, server=...)`", how="of an artifact or a saved UNet")
def test_a_saved_unet_is_given_to_a_pipeline(artifact: Path, served: str, saved: Path, tmp_path: Path) -> None:
    hecompile.load(artifact).save_pretrained(tmp_path / "unet")
    with EncryptedUNet.from_pretrained(tmp_path / "unet", server=served) as unet, hecompile.load(artifact) as local:
        assert torch.equal(draw(without_checker(saved, unet=unet)), draw(without_checker(saved, unet=local)))


REFUSALS = {
    "`pipe.enable_freeu()`": (lambda pipe: pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4), "leave it off"),
    "`pipe.load_lora_weights()`": (
        lambda pipe: pipe.load_lora_weights({"unet.conv_in.lora_A.weight": torch.zeros(2, 4, 3, 3)}),
        "load the LoRA into the plain model",
    ),
    "`pipe.fuse_lora()`": (lambda pipe: pipe.fuse_lora(), "load the LoRA into the plain model"),
    "`pipe.unet.set_attn_processor()`": (lambda pipe: pipe.unet.set_attn_processor(None), "set it on the plain model"),
    "`pipe.unet.enable_gradient_checkpointing()`": (
        lambda pipe: pipe.unet.enable_gradient_checkpointing(),
        "train the plain model",
    ),
    "`pipe.unet.push_to_hub()`": (lambda pipe: pipe.unet.push_to_hub("name"), "save_pretrained"),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, id=name, marks=refused("methods", name, f"`help: ... {help}`")) for name, (_, help) in REFUSALS.items()],
)
def test_what_cannot_work_says_what_to_do(name: str, text_to_image: Pair) -> None:
    call, help = REFUSALS[name]
    with pytest.raises(UnsupportedError, match=help):
        call(text_to_image.encrypted)


@works(
    "methods", "`pipe.enable_attention_slicing()`, `pipe.enable_vae_slicing()` and the like", how="change the client's own parts"
)
def test_savings_of_memory_do_nothing(text_to_image: Pair) -> None:
    before = draw(text_to_image.encrypted)
    text_to_image.encrypted.enable_attention_slicing()
    assert torch.equal(draw(text_to_image.encrypted), before)


@own_work(
    "methods", "`pipe.enable_model_cpu_offload()` and the like", "they move the client's own parts; the UNet holds no weights there"
)
def test_the_unet_holds_no_weights(text_to_image: Pair) -> None:
    assert not list(text_to_image.encrypted.unet.parameters())


@works(SAVING, "`pipe.save_pretrained(folder)`", how="with the client's half of the UNet and its server's address")
@works(
    SAVING, "`DiffusionPipeline.from_pretrained(folder, unet=hecompile.load(...))`", how="equal to `pipe.unet = ...`, bit for bit"
)
def test_shapes_saved_and_loaded_draw_the_same(shapes: Pair, tmp_path: Path) -> None:
    shapes.encrypted.save_pretrained(tmp_path)
    again = DiffusionPipeline.from_pretrained(tmp_path, unet=shapes.encrypted.unet)
    again.set_progress_bar_config(disable=True)
    caption = "a small red circle on a white background"
    assert torch.equal(draw(again, caption), draw(shapes.encrypted, caption))
