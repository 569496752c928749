"""The optimiser against every plan of small problems and many of a large one; the same plan every time."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from hecompile.cost.machine import Machine
from hecompile.cost.optimise import Budgets, Problem, client_seconds, latency_of, optimise, problem_of, rounds_of
from hecompile.cost.source import partitioned
from hecompile.errors import CompileError


@pytest.fixture(scope="module")
def digits() -> Problem:
    return problem_of(partitioned("digits"), Machine(rtt_ms=5.0))


def sub_problem(problem: Problem, count: int) -> Problem:
    """The first layers of a problem."""
    before = tuple(tuple(earlier for earlier in read if earlier < count) for read in problem.before[:count])
    return Problem(
        problem.names[:count], problem.shapes[:count], problem.server[:count], problem.client_s[:count], before, problem.machine
    )


def test_rounds_are_those_of_the_artifact(digits: Problem) -> None:
    assert len(digits.names) == 33
    assert rounds_of(digits, [True] * 33) == 20
    assert rounds_of(digits, [False] * 33) == 0


@pytest.mark.parametrize("least_saved", [0.0, 0.3, 0.8])
def test_a_small_problem_against_every_plan(digits: Problem, least_saved: float) -> None:
    problem = sub_problem(digits, 9)
    total = sum(np.prod((s.geometry.rows, s.geometry.picture[0], len(s.geometry.taps))) for s in problem.shapes) / 2**20
    budgets = Budgets(client_weights_mib=float(total) * (1 - least_saved))
    best = optimise(problem, budgets)
    sizes = [s.geometry.rows * s.geometry.picture[0] * len(s.geometry.taps) / 2**20 for s in problem.shapes]
    feasible = [
        latency_of(problem, sides)
        for sides in product([False, True], repeat=9)
        if sum(size for size, side in zip(sizes, sides, strict=True) if not side) <= total * (1 - least_saved) + 1e-9
    ]
    assert best.latency_s == pytest.approx(min(feasible), rel=1e-3)
    assert best.gap_s < 1e-6


def test_never_slower_than_other_plans(digits: Problem) -> None:
    """All at the client, all encrypted, and 200 random plans; with and without a limit on what the client holds."""
    rng = np.random.default_rng(0)
    sizes = np.array([s.geometry.rows * s.geometry.picture[0] * len(s.geometry.taps) / 2**20 for s in digits.shapes])
    for limit in (None, 0.05):
        best = optimise(digits, Budgets(client_weights_mib=limit))
        compared = 0
        random = [rng.random(33) < rng.random() for _ in range(2000)]
        for sides in [np.zeros(33, bool), np.ones(33, bool), *random]:
            if limit is not None and sizes[~sides].sum() > limit:
                continue
            compared += 1
            assert best.latency_s <= latency_of(digits, list(sides)) + 1e-5
        assert compared >= 200


def test_the_same_plan_every_time(digits: Problem) -> None:
    budgets = Budgets(client_weights_mib=0.05)
    assert optimise(digits, budgets) == optimise(digits, budgets)


def test_budgets_are_kept(digits: Problem) -> None:
    plan = optimise(digits, Budgets(rounds=3, client_weights_mib=0.16))
    assert plan.rounds <= 3
    everything = client_seconds(digits, [True] * 33)
    assert optimise(digits, Budgets(client_s=everything / 2)).client_s <= everything / 2 + 1e-5
    with pytest.raises(CompileError, match="no plan keeps"):
        optimise(digits, Budgets(rounds=1, client_weights_mib=0.0))


def test_pins(digits: Problem) -> None:
    plan = optimise(digits, pins={"conv_in*": "server", "*time_emb_proj*": "client"})
    assert any(name.startswith("conv_in") for name in plan.server)
    assert not any("time_emb_proj" in name for name in plan.server)
    for pins in ({"nothing*": "server"}, {"conv_in*": "moon"}):
        with pytest.raises(CompileError, match="fits no layer or side"):
            optimise(digits, pins=pins)


def test_an_optimised_artifact_computes_the_same_with_fewer_rounds(tmp_path: Path) -> None:
    """What stays at the client is exact, so the result can only come closer to the model."""
    import torch

    import hecompile
    from hecompile.compiler import compile_model
    from hecompile.options import CompileOptions
    from tests.networks import Tiny, tiny_inputs

    options = CompileOptions(backend="clear", partition="optimised", most_rounds=2, client_weights_mib=0.0008, max_batch=2)
    compiled = compile_model(Tiny().eval(), tmp_path / "a", options=options, example_inputs=tiny_inputs())
    assert 1 <= compiled.program.plan.rounds <= 2
    with torch.no_grad():
        expected = Tiny().eval()(**tiny_inputs())
    result = hecompile.load(tmp_path / "a", policy="simulation")(**tiny_inputs())
    assert (result - expected).abs().max() < 0.02 * expected.abs().max()


def test_a_plan_without_a_server_is_no_artifact() -> None:
    from hecompile.compiler import compile_model
    from hecompile.options import CompileOptions

    with pytest.raises(CompileError, match="every layer at the client"):
        compile_model("digits", options=CompileOptions(partition="optimised"))
    for options in ({"most_rounds": 3}, {"pin": ("a=server",)}, {"partition": "none"}, {"partition": "optimised", "pin": ("a",)}):
        with pytest.raises(CompileError):
            CompileOptions(**options)  # type: ignore[arg-type]
