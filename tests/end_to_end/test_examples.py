"""The examples run, and stay short."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

import hecompile

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("name", ["own_pass", "own_policy", "own_loop", "numpy_loop"])
def test_an_example_has_at_most_fifty_lines(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 50


@pytest.mark.fhe
def test_own_pass() -> None:
    example = runpy.run_path(str(EXAMPLES / "own_pass.py"))
    assert "limit-work" in [record.name for record in example["compile_small"](10.0).passes]
    with pytest.raises(hecompile.CompileError, match="million multiply-adds, most of them in up_blocks"):
        example["compile_small"](1.0)


@pytest.mark.fhe
def test_own_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / "own_policy.py"), run_name="__main__")
    from hecompile.policies import policy

    few = policy("few-rounds")
    monkeypatch.setattr(few, "most", 3)
    with pytest.raises(hecompile.CompileError, match="20 rounds a step, 3 allowed"):
        hecompile.compile("digits", options=hecompile.CompileOptions(policy="few-rounds"))


@pytest.mark.fhe
def test_numpy_loop(digits: Path, digits_clear: Path) -> None:
    draw = runpy.run_path(str(EXAMPLES / "numpy_loop.py"))["draw"]
    encrypted = draw(digits, None, label=3, steps=2)
    assert encrypted.tobytes() == draw(digits_clear, None, label=3, steps=2, policy="simulation").tobytes()


def test_the_numpy_loop_has_the_schedule_of_the_model() -> None:
    from diffusers import DDIMScheduler

    from hecompile.models import digits as model

    levels = runpy.run_path(str(EXAMPLES / "numpy_loop.py"))["signal_levels"]()
    assert abs(levels - DDIMScheduler(**model.SCHEDULER).alphas_cumprod.numpy()).max() < 1e-6


@pytest.mark.fhe
def test_own_loop(digits: Path, digits_clear: Path) -> None:
    import torch

    from hecompile.models import digits as model

    draw = runpy.run_path(str(EXAMPLES / "own_loop.py"))["draw"]
    encrypted = draw(hecompile.load(digits), label=3, steps=2)
    assert torch.equal(encrypted, draw(hecompile.load(digits_clear, policy="simulation"), label=3, steps=2))
    assert (encrypted - draw(model.load(), label=3, steps=2)).square().mean() < 1e-3
