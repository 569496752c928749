"""Whole approximations: what was judged is what is built, ranges are watched, budgets are kept on other inputs or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from benchmarks.baselines.fits import interpolation
from hecompile.approx.fits import weighted
from hecompile.approx.options import ApproximationOptions
from hecompile.approx.out_of_range import out_of_range
from hecompile.approx.validation import ValidationRun, psnr_db
from hecompile.calibration import Calibration, Call, from_sampler, load_calibration, save_calibration
from hecompile.errors import CompileError, InternalError
from hecompile.ir.graph import ModelGraph
from hecompile.ir.linear import Array
from hecompile.ir.verify import verify_graph
from hecompile.onnx_export import to_onnx
from hecompile.options import CompileOptions
from hecompile.passes.approximate_activations import ApproximateActivations
from tests.approx.networks import Mixer, Only, marked, mixer_calls, tiny
from tests.frontend.architectures import build

pytestmark = pytest.mark.slow  # all of them together

ON = CompileOptions(backend="clear", activations="polynomial")


def approximated(graph: ModelGraph, **changes: Any) -> ModelGraph:
    options = replace(ON, **changes)
    recorded = None if options.calibration is None else load_calibration(Path(options.calibration))
    approximation = ApproximateActivations(options.panel(ApproximationOptions), recorded=recorded)
    after = approximation.run(graph)
    verify_graph(after)
    assert approximation.compare(graph, after)
    return after


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("calls") / "mixer.safetensors"
    save_calibration(mixer_calls(0), path)
    return str(path)


@pytest.fixture(scope="module")
def mixer() -> ModelGraph:
    return marked(Mixer().eval(), {"tokens": torch.zeros(2, 5, 8)})


def in_onnx(graph: ModelGraph, calls: Calibration) -> Array:
    session = onnxruntime.InferenceSession(to_onnx(graph.graph_module, "model"), providers=["CPUExecutionProvider"])
    read = {item.name for item in session.get_inputs()}
    runs = [session.run(None, {name: value for name, value in call.inputs.items() if name in read})[0] for call in calls]
    return np.concatenate([run.ravel() for run in runs])


@pytest.mark.parametrize("norms", ["exact", "static", "polynomial"])
def test_a_network_of_layer_norm_and_gelu_keeps_its_promise(mixer: ModelGraph, recorded: str, norms: str) -> None:
    graph = approximated(mixer, degree=9, norms=norms, calibration=recorded)
    assert graph.approximation is not None
    others = mixer_calls(1)
    exact, approximate = (ValidationRun(others, None).run(network) for network in (mixer, graph))
    assert psnr_db(exact, approximate) >= graph.approximation.promised_db
    np.testing.assert_allclose(in_onnx(graph, others), approximate, atol=2e-5 * np.abs(approximate).max())


@pytest.mark.slow
def test_a_budget_is_kept_with_the_least_depth(mixer: ModelGraph, recorded: str) -> None:
    cheap, dear = (approximated(mixer, budget_db=budget, calibration=recorded) for budget in (25.0, 45.0))
    assert cheap.approximation is not None
    assert dear.approximation is not None
    assert cheap.approximation.total_depth < dear.approximation.total_depth
    exact = ValidationRun(mixer_calls(1), None).run(mixer)
    for graph, budget in ((cheap, 25.0), (dear, 45.0)):
        assert psnr_db(exact, ValidationRun(mixer_calls(1), None).run(graph)) >= budget
    points = dear.approximation.curve
    assert [point.degree for point in points if point.degree is not None] == [1, 3, 7, 15]
    assert any(point.degree is None for point in points)


def test_another_fit_takes_the_place_of_the_default_one(mixer: ModelGraph, recorded: str) -> None:
    """The benchmark compares fits this way. The fit that is closer on the data gives the closer result."""
    options, calls = ApproximationOptions(activations="polynomial", degree=5), load_calibration(Path(recorded))
    passes = [ApproximateActivations(options, recorded=calls, fit=fit) for fit in (weighted, interpolation)]
    ours, other = (step.run(mixer).approximation for step in passes)
    assert ours is not None
    assert other is not None
    assert ours.measured_db > other.measured_db


def test_a_budget_out_of_reach_names_the_site_and_the_best(mixer: ModelGraph, recorded: str) -> None:
    with pytest.raises(CompileError, match=r"cannot be met: \w+ costs too much even at degree \d+.*the best that can be"):
        approximated(mixer, budget_db=200.0, calibration=recorded)
    with pytest.raises(CompileError, match="replacing the norms costs too much; the best that can be reached is"):
        approximated(mixer, budget_db=90.0, norms="static", calibration=recorded)
    with pytest.raises(CompileError, match="each site needs a depth of one: at least 3"):
        approximated(mixer, total_depth=2, calibration=recorded)


def test_values_out_of_range_are_reported_with_what_caused_them(mixer: ModelGraph, recorded: str) -> None:
    graph = approximated(mixer, degree=5, calibration=recorded)
    tokens = mixer_calls(1).calls[0].inputs["tokens"].copy()
    tokens[7] *= 5
    calm, wild = Call({"tokens": tokens[:7]}), Call({"tokens": tokens})
    outliers = out_of_range(graph, ValidationRun(Calibration((calm, wild)), None))
    assert outliers
    for outlier in outliers:
        assert (outlier.call, outlier.sample, outlier.bin) == (1, 7, 0)
        assert not outlier.low <= outlier.value <= outlier.high
        assert outlier.site in str(outlier)
    clamped = approximated(mixer, degree=5, clamp=True, calibration=recorded)
    assert not out_of_range(clamped, ValidationRun(Calibration((calm, wild)), None))


def test_a_reciprocal_of_what_may_be_zero_is_refused(tmp_path: Path) -> None:
    class Inverse(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.reciprocal(x)

    save_calibration(Calibration((Call({"x": np.linspace(-1, 1, 8, dtype=np.float32)[:, None]}),)), tmp_path / "calls.safetensors")
    with pytest.raises(CompileError, match="values reach down to -1, where reciprocal has no polynomial"):
        approximated(marked(Inverse(), {"x": torch.ones(2, 1)}), calibration=str(tmp_path / "calls.safetensors"))


def test_a_polynomial_that_explodes_is_refused_with_the_value(tmp_path: Path) -> None:
    calm, wild = np.linspace(-3, 3, 8, dtype=np.float32), np.full(8, 1e6, np.float32)
    save_calibration(Calibration((Call({"x": np.concatenate([calm, wild])[:, None]}),)), tmp_path / "calls.safetensors")
    graph = marked(Only(torch.nn.SiLU()), {"x": torch.ones(2, 1)})
    with pytest.raises(CompileError, match=r"infinite values outside its range: \w+, timestep bin 0: 8 values .* farthest 1e\+06"):
        approximated(graph, degree=9, calibration=str(tmp_path / "calls.safetensors"))


@pytest.mark.slow
def test_a_graph_worse_than_promised_is_caught() -> None:
    graph = tiny()
    approximation = ApproximateActivations(ApproximationOptions(activations="polynomial"))
    after = approximation.run(graph)
    assert after.approximation is not None
    assert approximation.run(after) is after
    spoilt = replace(after, approximation=replace(after.approximation, promised_db=after.approximation.measured_db + 1))
    with pytest.raises(InternalError, match="promised"):
        approximation.compare(graph, spoilt)


@pytest.mark.slow
def test_tables_follow_the_timestep() -> None:
    """In torch and in ONNX, at timesteps of every bin."""
    graph = approximated(tiny(), norms="static", clamp=True, degree=5)
    start = from_sampler(graph, steps=1, samples=4).calls[0].inputs
    calls = Calibration(tuple(Call({**start, "timestep": np.asarray(t, np.float32)}) for t in range(0, 1000, 49)))
    result = ValidationRun(calls, None).run(graph)
    assert len({value.tobytes() for value in np.split(result, len(calls))}) == len(calls)
    np.testing.assert_allclose(in_onnx(graph, calls), result, atol=2e-5 * np.abs(result).max())


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"budget_db": 40.0}, {"degree": 15, "norms": "polynomial", "clamp": True}])
def test_a_conditional_unet_keeps_its_promise(changes: dict[str, Any]) -> None:
    graph = marked(build("cross attention"))
    after = approximated(graph, **changes)
    assert after.approximation is not None
    calls = from_sampler(graph, steps=10, samples=8, seed=7)
    exact, approximate = (ValidationRun(calls, {}).run(network) for network in (graph, after))
    assert psnr_db(exact, approximate) >= after.approximation.promised_db
    assert not out_of_range(after, ValidationRun(calls, {}))
    exact, approximate = (ValidationRun(calls, None).run(network) for network in (graph, after))
    np.testing.assert_allclose(in_onnx(after, calls), approximate, atol=1e-4 * np.abs(approximate).max())
