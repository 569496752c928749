"""UNets of other kinds through the whole system: encrypted equals simulated bit for bit, and both are close to the float model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention, AttnProcessor

import hecompile
from hecompile.compiler import PassEvent, compile_model, pipeline
from hecompile.frontend.sources import load_source
from hecompile.options import CompileOptions
from tests.artifacts import shared
from tests.frontend.agreement import arguments as nested
from tests.frontend.architectures import build, perturbed
from tests.frontend.handwritten import HandwrittenUNet, handwritten_inputs


def both(model: torch.nn.Module, folder: Path, examples: dict[str, Any] | None = None) -> Path:
    """The folder, with the model under `bfv` and under `clear` in it, traced once for both."""
    folder.mkdir(exist_ok=True)
    traced = []

    def keep(event: PassEvent) -> None:
        traced.extend([event.after] if event.name == "canonicalize" else [])

    options = CompileOptions(backend="bfv", max_batch=2)
    compile_model(model, folder / "bfv", options=options, example_inputs=examples, observer=keep)
    program: Any = traced[0]
    passes = pipeline(CompileOptions(backend="clear", max_batch=2), folder / "clear")
    names = [step.name for step in passes]
    for step in passes[names.index("canonicalize") + 1 :]:
        program = step.run(program)
    return folder


def of_diffusers(name: str) -> Path:
    """Both of an architecture, compiled once."""
    return shared(f"architecture {name}", lambda folder: both(build(name), folder))


def loaded(folder: Path) -> tuple[torch.nn.Module, torch.nn.Module]:
    return hecompile.load(folder / "bfv"), hecompile.load(folder / "clear", policy="simulation")


@pytest.mark.fhe
@pytest.mark.parametrize(
    "name", ["attention", "cross attention", "text and time", "conditional scale and shift", "asymmetric padding"]
)
def test_unets_of_diffusers(name: str) -> None:
    model = build(name)
    encrypted, simulated = loaded(of_diffusers(name))
    arguments = nested({**load_source(model).inputs})
    with torch.no_grad():
        expected = model(**arguments).sample
    result = simulated(**arguments).sample
    np.testing.assert_array_equal(encrypted(**arguments).sample, result)
    assert (result - expected).square().mean() < 0.05**2 * expected.square().mean()


@pytest.mark.fhe
def test_a_unet_written_by_hand(tmp_path: Path) -> None:
    model, arguments = HandwrittenUNet().eval(), handwritten_inputs()
    encrypted, simulated = loaded(both(model, tmp_path, arguments))
    with torch.no_grad():
        expected = model(**arguments)
    result = simulated(**arguments)
    np.testing.assert_array_equal(encrypted(**arguments), result)
    assert (result - expected).square().mean() < 0.05**2 * expected.square().mean()


@pytest.mark.fhe
def test_a_prompt_is_sent_once_a_run() -> None:
    model = build("cross attention")
    simulated: Any = hecompile.load(of_diffusers("cross attention") / "clear", policy="simulation")
    arguments = nested({**load_source(model).inputs})
    sent = []
    with simulated.run():
        for t in (900.0, 500.0):
            before = simulated.meter.requests
            simulated(**arguments | {"timestep": t})
            sent.append(simulated.meter.requests - before)
    assert sent[0] > sent[1]


def test_attention_as_diffusers_plain_processor_computes_it(tmp_path: Path) -> None:
    """Its scores are added to an empty tensor that is not read."""
    torch.manual_seed(0)
    blocks = {"down_block_types": ("AttnDownBlock2D",), "up_block_types": ("AttnUpBlock2D",), "mid_block_type": None}
    sizes = {"sample_size": 8, "block_out_channels": (8,), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 4}
    model = perturbed(UNet2DModel(**blocks, **sizes))
    layers = [part for part in model.modules() if isinstance(part, Attention)]
    for layer in layers:
        layer.set_processor(AttnProcessor())
    compile_model(model, tmp_path / "clear", options=CompileOptions(backend="clear", max_batch=2))
    arguments = nested({**load_source(model).inputs})
    with torch.no_grad():
        expected = model(**arguments).sample
    result = hecompile.load(tmp_path / "clear", policy="simulation")(**arguments).sample
    assert layers
    assert (result - expected).square().mean() < 0.05**2 * expected.square().mean()
