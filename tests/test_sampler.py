"""Compiling a sampler's step: what the artifact says, and every reveal that is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from hecompile.artifact import read_manifest
from hecompile.calibration import Calibration, save_calibration
from hecompile.cli.app import app
from hecompile.compiler import compile_model
from hecompile.errors import CompileError
from hecompile.options import CompileOptions
from hecompile.sampler_artifact import SamplerOptions, compile_sampler, parse_shape
from hecompile.sparsity.importance import magnitude
from tests.networks import Tiny, tiny_inputs
from tests.sampling import SHAPE, artifact, calls


def test_the_artifact_declares_its_reveals(tmp_path: Path) -> None:
    manifest = artifact(tmp_path / "a")
    assert manifest.policy == "he-diffusion"
    assert [reveal.split(":")[0] for reveal in manifest.reveals] == ["sample", "noise"]
    assert all("counted over all steps, rounded to 12 bits" in reveal for reveal in manifest.reveals)
    assert manifest.config["watermark"] == "no cryptographic guarantee"
    report = (tmp_path / "a" / "report.html").read_text()
    assert report.count("No cryptographic guarantee") == 2
    assert read_manifest(tmp_path / "a").reveals == manifest.reveals


def test_dynamic_support_is_declared_too(tmp_path: Path) -> None:
    manifest = artifact(tmp_path / "a", dynamic=True)
    assert manifest.reveals[2].startswith("support: chosen by 'hill' from the sample itself")
    assert "at most" in manifest.reveals[0]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    artifact(tmp_path / "a")
    artifact(tmp_path / "b")
    for path in sorted((tmp_path / "a").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_filling_reveals_nothing_that_would_travel_encrypted_for_nothing(tmp_path: Path) -> None:
    """1024 entries and a ring of 2048: all of them fit one polynomial."""
    manifest = artifact(tmp_path / "a", fill=True)
    assert manifest.reveals == ()
    assert manifest.config["watermark"] == ""


@pytest.mark.promise("sampler-reveals")
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"reveal_bits": 24}, "sample -> sampler and noise -> sampler: revealed at full precision"),
        ({"reveal_bits": 15}, "full precision"),
        ({"reveal_bits": 1}, "reveal_bits is from 2 to 14"),
        ({"dynamic": True, "most_clear": 1.0}, "noise -> sampler: revealed at fraction 1"),
        ({"tau": 0.5, "most_clear": 0.25}, "counted over all steps, are above the budget of 256"),
        ({"tau": 0.5, "nested": True, "most_clear": 0.25}, "counted over all steps"),
    ],
)
def test_reveals_that_are_refused_name_their_edge(tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(CompileError, match=reason):
        artifact(tmp_path / "a", **options)
    assert not (tmp_path / "a").exists()


def test_a_sample_of_zeros_but_one_is_not_revealed_whole(tmp_path: Path) -> None:
    """All that has no distortion goes at tau 0; a cost that says so of everything is refused."""
    with pytest.raises(CompileError, match="no entry is more important"):
        compile_sampler(tmp_path / "a", SHAPE, calls(), cost=np.zeros_like)


def test_findings_are_reported_all_at_once(tmp_path: Path) -> None:
    with pytest.raises(CompileError) as caught:
        artifact(tmp_path / "a", reveal_bits=24, tau=0.9, most_clear=0.1)
    assert len(caught.value.diagnostics) == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"tau": 1.0}, "tau"),
        ({"cost": "hilll"}, "known: "),
        ({"max_batch": 0}, "max_batch"),
        ({"dynamic": True, "nested": True}, "dynamic masks cannot be nested"),
        ({"security": 192}, "no parameter table"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(CompileError, match=reason):
        artifact(tmp_path / "a", **options)


def test_static_masks_need_a_calibration_that_fits(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="need a calibration"):
        compile_sampler(tmp_path / "a", SHAPE)
    with pytest.raises(CompileError, match="shape"):
        compile_sampler(tmp_path / "a", (1, 8, 8), calls())


def test_a_cost_of_ones_own(tmp_path: Path) -> None:
    options = SamplerOptions(fill=False, cost="magnitude")
    compile_sampler(tmp_path / "a", SHAPE, calls(), options, cost=lambda x: 2 * magnitude(x))
    compile_sampler(tmp_path / "b", SHAPE, calls(), options)
    assert (tmp_path / "a/client/sampler.safetensors").read_bytes() == (tmp_path / "b/client/sampler.safetensors").read_bytes()


def test_a_unet_under_this_policy_stays_at_the_client() -> None:
    with pytest.raises(CompileError, match=r"%\w+ first, would run at the server[\s\S]*compile-sampler"):
        compile_model(Tiny().eval(), options=CompileOptions(policy="he-diffusion"), example_inputs=tiny_inputs())


def test_shapes_are_read() -> None:
    assert parse_shape("4x64x64") == (4, 64, 64)
    for wrong in ("4x64", "4x64x0", "axbxc", "-4x64x64", ""):
        with pytest.raises(CompileError, match="CxHxW"):
            parse_shape(wrong)


def test_the_command(tmp_path: Path) -> None:
    save_calibration(Calibration(tuple(calls())), tmp_path / "calls.safetensors")
    runner, artifact = CliRunner(), str(tmp_path / "a")
    arguments = ["compile-sampler", "-o", artifact, "--shape", "4x16x16", "--calibration", str(tmp_path / "calls.safetensors")]
    summary = json.loads(runner.invoke(app, [*arguments, "--tau", "0.1", "--no-fill", "--json"]).stdout)
    assert (summary["policy"], summary["watermark"], len(summary["reveals"])) == ("he-diffusion", "no cryptographic guarantee", 2)
    assert json.loads(runner.invoke(app, ["inspect", artifact, "--json"]).stdout)["reveals"] == summary["reveals"]
    assert "no cryptographic guarantee: noise" in runner.invoke(app, [*arguments, "--tau", "0.1", "--no-fill"]).stdout
    assert "no cryptographic guarantee: noise" in runner.invoke(app, ["inspect", artifact]).stdout
    assert "reveals nothing" in runner.invoke(app, arguments).stdout
    refused = runner.invoke(app, [*arguments, "--reveal-bits", "24"])
    assert isinstance(refused.exception, CompileError)
