"""Fronts of plans: nothing on them is beaten, they are written and drawn, and distortion is what measuring says."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from hecompile.ir.graph import ModelGraph
from hecompile.machine import Machine
from hecompile.planner.distortion import LayerDistortion
from hecompile.planner.optimise import Budgets, Problem, optimise
from hecompile.planner.pareto import AXES, fronts, write
from hecompile.predict import partitioned, problem_of_source
from tests.networks import Tiny, tiny_inputs
from tests.programs import program_of

pytestmark = pytest.mark.slow  # all of them together


@pytest.fixture(scope="module")
def graph() -> ModelGraph:
    return partitioned(Tiny().eval(), tiny_inputs())


@pytest.fixture(scope="module")
def problem(graph: ModelGraph) -> Problem:
    return problem_of_source(graph, Machine())


def test_nothing_on_a_front_is_beaten(problem: Problem) -> None:
    every_front = fronts(problem, Budgets(client_weights_mib=0.0), steps=4)
    assert [front.axis for front in every_front] == list(AXES)
    for front in every_front:
        for cheap, fast in pairwise(front.points):
            assert getattr(cheap.totals, front.axis) < getattr(fast.totals, front.axis)
            assert cheap.totals.latency_s > fast.totals.latency_s
    leakage, _, held = every_front
    assert len(held.points) > 1
    assert leakage.points[0].totals.leakage == 0
    assert all(share == 1 for point in held.points for share in point.encrypted.values())
    assert every_front == fronts(problem, Budgets(client_weights_mib=0.0), steps=4)


def test_fronts_are_written_and_drawn(problem: Problem, tmp_path: Path) -> None:
    data, picture = write(fronts(problem, Budgets(client_weights_mib=0.0), steps=2), tmp_path / "front")
    assert set(json.loads(data.read_text())["fronts"]) == set(AXES)
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_pins_hold_on_the_front(problem: Problem) -> None:
    every_front = fronts(problem, Budgets(), {"last*": "server"}, steps=2)
    assert all(any(name.startswith("last") for name in point.encrypted) for front in every_front for point in front.points)


def test_fewer_steps_distort_more() -> None:
    layer = LayerDistortion(weights=1e-5, values=3.0)
    assert layer.error_var(2047) == pytest.approx(1e-5 + 3 / 2047**2)
    assert layer.error_var(2047, 0.5, 128) == pytest.approx(1e-5 + 1.5 / 2047**2 + 1.5 / 128**2)


def test_predicted_distortion_is_of_the_size_that_integers_make(graph: ModelGraph, problem: Problem) -> None:
    """All layers at the server against the same integers in the clear, on calls like those of calibration.

    Sensitivities are to white noise, rounding errors are not white: within a factor of ten in variance.
    """
    from hecompile.calibration import from_sampler
    from hecompile.compiler import compile_model
    from hecompile.options import CompileOptions

    options = CompileOptions(backend="clear", max_batch=2)
    program = program_of(compile_model(Tiny().eval(), options=options, example_inputs=tiny_inputs()))
    changed = reference = 0.0
    for call in from_sampler(graph, steps=4, samples=2):
        exact = graph(*(torch.from_numpy(call.inputs[spec.name]) for spec in graph.inputs))[0].numpy()
        changed += float(((program.run(call.inputs)[program.plan.outputs[0]] - exact) ** 2).sum())
        reference += float((exact**2).sum())
    predicted = optimise(problem, Budgets(client_weights_mib=0.0, leakage=0.0)).totals.distortion
    assert 0.1 < predicted / (changed / reference) < 10
