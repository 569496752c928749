"""Blocks of a diffusion transformer of full width, encrypted: two of DiT-XL's 28, 1152 wide with 16 heads, on 256 tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hecompile
from hecompile.compiler import compile_model
from hecompile.models.published import SHAPES
from hecompile.options import CompileOptions

BLOCKS = 2
LEAST_DB = 45.0


def stack() -> torch.nn.Module:
    """DiT-XL with two blocks and seeded weights, also those that training begins with at zero: norms' scales and shifts and gates
    come from them."""
    from diffusers import DiTTransformer2DModel

    torch.manual_seed(0)
    model: torch.nn.Module = DiTTransformer2DModel(**{**SHAPES["dit-shaped"].config, "num_layers": BLOCKS})
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0.0, 0.02, generator=generator)
    return model.eval()


def call() -> dict[str, torch.Tensor]:
    """A latent, a step and a class, batch one."""
    generator = torch.Generator().manual_seed(2)
    latent = torch.randn(1, 4, 32, 32, generator=generator)  # (B, C, H, W)
    return {"hidden_states": latent, "timestep": torch.tensor([481.5]), "class_labels": torch.tensor([207])}


def psnr_db(result: torch.Tensor, expected: torch.Tensor) -> float:
    """Of the range of what is expected."""
    span = float(expected.max() - expected.min())
    return 20 * float(np.log10(span / float((result - expected).square().mean().sqrt())))


@pytest.mark.slow
def test_two_blocks_of_full_width_encrypted_are_as_in_the_clear(tmp_path: Path) -> None:
    model, results = stack(), dict[str, Any]()
    assert all(bool(parameter.any()) for parameter in model.parameters())
    for backend in ("bfv", "clear"):
        compile_model(model, tmp_path / backend, options=CompileOptions(backend=backend, max_batch=1))
        policy = "strict" if backend == "bfv" else "simulation"
        results[backend] = hecompile.load(tmp_path / backend, policy=policy)(**call()).sample
    np.testing.assert_array_equal(results["bfv"], results["clear"])
    with torch.no_grad():
        expected = model(**call()).sample
    assert psnr_db(results["clear"], expected) >= LEAST_DB
