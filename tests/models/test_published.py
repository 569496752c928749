"""The shapes of well-known models: as many parameters as those were published with, and none of their data."""

from __future__ import annotations

import pytest

from hecompile.models import load_model, zoo
from hecompile.models.published import SHAPES

PARAMETERS = {  # millions; in diffusers every block of DiT has an embedding of steps and classes of its own
    "sd15-shaped": 860, "sd21-shaped": 866, "sdxl-shaped": 2567, "dit-shaped": 750, "pixart-shaped": 611, "sd3-shaped": 2028,
    "flux-shaped": 11901,
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_has_its_models_parameters(name: str) -> None:
    model = load_model(name)
    parameters = list(model.parameters())
    assert sum(parameter.numel() for parameter in parameters) / 1e6 == pytest.approx(PARAMETERS[name], rel=0.01)
    assert all(parameter.is_meta for parameter in parameters)
    assert SHAPES[name].model in zoo()[name]
