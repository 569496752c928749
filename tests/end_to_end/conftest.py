"""The text-to-image pipeline that most tests of pipelines draw with, compiled once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hecompile.options import CompileOptions
from tests.artifacts import compile_once

if TYPE_CHECKING:
    from tests.end_to_end.pipelines import Pair


@pytest.fixture(scope="session")
def text_to_image() -> Pair:
    """Stable Diffusion's pipeline with one level, plain and around its UNet compiled in `clear`."""
    import hecompile
    from tests.end_to_end.pipelines import Pair, network, pipeline, with_unet

    pipe, compiled = pipeline(network()), compile_once(network, CompileOptions(backend="clear"))
    assert compiled.artifact is not None
    return Pair(pipe, with_unet(pipe, hecompile.load(compiled.artifact, policy="simulation")))
