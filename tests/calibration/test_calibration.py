"""Calibration replays, survives the disk, and its statistics are those of the values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hecompile.calibration import (
    Calibration,
    Call,
    collect,
    from_sampler,
    load_calibration,
    save_calibration,
    sensitivity,
    timestep_bin,
)  # fmt: skip
from hecompile.errors import CompileError
from hecompile.frontend.sources import load_source
from hecompile.ir.graph import ModelGraph
from hecompile.models.digits import SCHEDULER
from hecompile.passes.canonicalize import Canonicalize
from hecompile.passes.trace import Trace


@pytest.fixture(scope="module")
def graph() -> ModelGraph:
    source: Any = load_source("digits")
    return Canonicalize().run(Trace().run(source))


@pytest.fixture(scope="module")
def calibration(graph: ModelGraph) -> Calibration:
    return from_sampler(graph, SCHEDULER, steps=5, samples=2)


def test_it_replays_and_repeats(graph: ModelGraph, calibration: Calibration) -> None:
    again = from_sampler(graph, SCHEDULER, steps=5, samples=2)
    assert [call.t for call in calibration] == [call.t for call in calibration] == [800.0, 600.0, 400.0, 200.0, 0.0]
    for first, second in zip(calibration, again, strict=True):
        for name in first.inputs:
            np.testing.assert_array_equal(first.inputs[name], second.inputs[name])


def test_the_samples_become_digits(calibration: Calibration) -> None:
    """The latents of the last call are close to pictures in [-1, 1]."""
    assert np.abs(calibration.calls[-1].inputs["sample"]).max() < 1.6


def test_disk(calibration: Calibration, tmp_path: Path) -> None:
    save_calibration(calibration, tmp_path / "calls.safetensors")
    for first, second in zip(calibration, load_calibration(tmp_path / "calls.safetensors"), strict=True):
        assert first.t == second.t
        np.testing.assert_array_equal(first.inputs["sample"], second.inputs["sample"])


def test_bad_files(tmp_path: Path) -> None:
    from safetensors.numpy import save

    for name, data in {
        "garbage": b"no",
        "names": save({"sample": np.zeros(3)}),
        "nan": save({"0000.sample": np.array([np.nan])}),
        "different": save({"0000.sample": np.zeros(1), "0001.other": np.zeros(1)}),
        "empty": save({}),
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(CompileError):
            load_calibration(tmp_path / name)
    with pytest.raises(CompileError):
        load_calibration(tmp_path / "missing")


def test_statistics_are_those_of_the_values(graph: ModelGraph, calibration: Calibration) -> None:
    collected = collect(graph, calibration, ["sample", graph.outputs[0]])
    values = [call.inputs["sample"] for call in calibration]
    node = collected["sample"]
    for call, value in zip(calibration, values, strict=True):
        place = timestep_bin(call.t)
        assert node.count[place] == value.size
        assert node.mean[place] == pytest.approx(value.mean(), abs=1e-5)
        assert node.variance[place] == pytest.approx(value.var(), rel=1e-4)
        assert (node.low[place], node.high[place]) == (value.min(), value.max())
        np.testing.assert_array_equal(node.histogram[place], np.histogram(value, node.edges)[0])
    assert node.histogram.sum() == sum(value.size for value in values)
    with torch.no_grad():
        eps = graph(*(torch.from_numpy(np.asarray(calibration.calls[0].inputs[spec.name])) for spec in graph.inputs))[0]
    assert collected[graph.outputs[0]].high[timestep_bin(800.0)] == pytest.approx(float(eps.max()))


@pytest.mark.slow
def test_sensitivity_of_the_output_itself_is_one(graph: ModelGraph, calibration: Calibration) -> None:
    assert sensitivity(graph, calibration, graph.outputs[0]) == pytest.approx(1.0, rel=0.1)
    # at the last step the latent is nearly clean, and all of an error at it is taken for noise
    assert 1 < sensitivity(graph, calibration, "sample") < 100


def test_names_are_checked(graph: ModelGraph, calibration: Calibration) -> None:
    for ask in (lambda: collect(graph, calibration, ["nothing"]), lambda: sensitivity(graph, calibration, "class_labels")):
        with pytest.raises(CompileError, match="known:"):
            ask()
    with pytest.raises(CompileError, match="known: sample"):
        collect(graph, calibration, ["sample"])["other"]


@pytest.mark.parametrize(("t", "place"), [(0, 0), (49.9, 0), (50, 1), (999, 19), (1000, 19), (-3, 0), (843.356, 16)])
def test_bins(t: float, place: int) -> None:
    assert timestep_bin(t) == place


def test_a_calibration_needs_calls() -> None:
    with pytest.raises(CompileError, match="at least one"):
        Calibration(())
    with pytest.raises(CompileError, match="not finite"):
        Calibration((Call({"sample": np.array([np.inf])}),))
