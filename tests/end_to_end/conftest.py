"""The text-to-image pipelines that most tests of pipelines draw with, each compiled once."""

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


@pytest.fixture(scope="session")
def shapes() -> Pair:
    """The trained pipeline of the zoo, plain and around its UNet compiled in `clear`."""
    import hecompile
    from hecompile.models import shapes as model
    from tests.end_to_end.pipelines import Pair, with_unet

    pipe, compiled = model.load_pipeline(), compile_once("shapes", CompileOptions(backend="clear"))
    assert compiled.artifact is not None
    return Pair(pipe, with_unet(pipe, hecompile.load(compiled.artifact, policy="simulation")))
