"""Digits with every conv and linear in circuits of Concrete, through a server in a second process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import hecompile
from hecompile.backends.registry import backend
from hecompile.compiler import compile_model
from hecompile.models import digits as model
from hecompile.options import CompileOptions
from tests.end_to_end.test_digits import draw, psnr
from tests.programs import program_of

SERVE = [sys.executable, "-c", "from hecompile.cli import main; main()", "serve"]


@pytest.mark.slow
@pytest.mark.fhe
def test_a_digit_in_two_steps_is_close_to_the_float_model(tmp_path: Path) -> None:
    """Ten steps take minutes; they reach 43 dB."""
    folder = tmp_path / "digits"
    compiled = compile_model("digits", folder, options=CompileOptions(backend="concrete", max_batch=1))
    halves = [(region.backend, region.lowered.client) for region in program_of(compiled).calls.values() if region.lowered]
    layers = [(name, backend(name).describe(half).layers) for name, half in halves]
    assert sum(count for _, count in layers) == 33
    assert [layer for layer in layers if layer[0] != "concrete"] == [("concrete_stacks", 2)] * 5  # every conv beside a shortcut
    server = subprocess.Popen([*SERVE, str(folder), "--port", "0", "--json"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        unet = hecompile.load(folder, json.loads(server.stdout.readline())["url"])
        image = draw(unet, "ddim", [7], 2)
    finally:
        server.terminate()
        server.wait()
    assert np.isfinite(image).all()
    assert psnr(image, draw(model.load(), "ddim", [7], 2)) > 30
