"""What is traced, canonicalized and written computes what the model computes, at every batch size."""

from __future__ import annotations

import inspect
import re

import pytest

from hecompile.compiler import compile_model
from hecompile.frontend.sources import load_source
from hecompile.options import CompileOptions
from tests.frontend.agreement import worst_difference
from tests.frontend.architectures import ARCHITECTURES, NOT_IN_UNETS, QUICK, build
from tests.frontend.handwritten import HandwrittenUNet, handwritten_inputs

TOLERANCE = 1e-5  # of the largest entry: float32 sums in another order through some forty layers
CASES = [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in ARCHITECTURES]


@pytest.mark.parametrize("name", CASES)
def test_every_architecture_keeps_its_numbers(name: str) -> None:
    assert worst_difference(load_source(build(name))) <= TOLERANCE


@pytest.mark.slow
def test_a_network_written_by_hand_keeps_its_numbers() -> None:
    assert worst_difference(load_source(HandwrittenUNet().eval(), handwritten_inputs())) <= TOLERANCE


def test_every_block_type_of_diffusers_is_tried() -> None:
    from diffusers.models.unets import unet_2d_blocks

    known = set()
    for function in (unet_2d_blocks.get_down_block, unet_2d_blocks.get_mid_block, unet_2d_blocks.get_up_block):
        known |= set(re.findall(r'block_type == "(\w+)"', inspect.getsource(function)))
    configs = ARCHITECTURES.values()
    tried = {name for config in configs for key in ("down_block_types", "up_block_types") for name in config[key]}
    tried |= {config.get("mid_block_type") for config in configs}
    assert len(known) > 20
    assert known - NOT_IN_UNETS <= tried


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "attention", "cross attention"])
def test_the_whole_pipeline_runs_through(name: str) -> None:
    compiled = compile_model(build(name), None, options=CompileOptions(backend="clear"))
    assert compiled.passes[-1].name == "check-security"


@pytest.mark.slow
def test_the_whole_pipeline_runs_through_for_sdxl() -> None:
    assert compile_model(build("text and time"), None, options=CompileOptions(backend="clear")).passes


@pytest.mark.slow
def test_the_whole_pipeline_runs_through_for_a_network_written_by_hand() -> None:
    compiled = compile_model(
        HandwrittenUNet().eval(), None, options=CompileOptions(backend="clear"), example_inputs=handwritten_inputs()
    )
    assert compiled.passes[-1].name == "check-security"
