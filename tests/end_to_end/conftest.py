"""The text-to-image pipeline that most tests of pipelines draw with, compiled once."""

from __future__ import annotations

import pytest

from tests.end_to_end.pipelines import Pair, encrypted, network, pipeline


@pytest.fixture(scope="session")
def text_to_image(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Stable Diffusion's pipeline with one level, plain and around its UNet compiled in `clear`."""
    return encrypted(pipeline(network()), tmp_path_factory.mktemp("artifacts") / "text-to-image")
