"""The optimiser against every plan of small problems and many of a large one; the same plan every time."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hecompile.errors import CompileError
from hecompile.ir.candidates import Cost
from hecompile.ir.graph import ModelGraph
from hecompile.ir.layer_groups import layer_groups
from hecompile.machine import GOALS, Machine, objective
from hecompile.planner.choices import reveal_options
from hecompile.planner.distortion import LayerDistortion
from hecompile.planner.model import GAP
from hecompile.planner.optimise import Budgets, Problem, optimise, problem_of, rounds_of, totals_of
from hecompile.planner.plan import predict_graph
from hecompile.planner.problem import Run
from hecompile.predict import partitioned
from tests.programs import program_of

pytestmark = pytest.mark.slow  # all of them together

MACHINE = Machine(rtt_ms=5.0)


def within(budgets: Budgets, limits: Mapping[str, Any]) -> Budgets:
    """Budgets with other limits, by their names."""
    return replace(budgets, **limits)


@pytest.fixture(scope="module")
def graph() -> ModelGraph:
    return partitioned("digits")


@pytest.fixture(scope="module")
def strict(graph: ModelGraph) -> Problem:
    """Client or server, nothing in between."""
    return problem_of(graph, MACHINE, backends=("bfv",))


@pytest.fixture(scope="module")
def revealing(graph: ModelGraph) -> Problem:
    """Every layer may show three quarters, a half or a quarter of its channels, at a price in distortion."""
    groups = layer_groups(graph)
    distortions = [LayerDistortion(1e-6 * (place + 1), 2.0 + place) for place in range(len(groups))]
    return problem_of(graph, MACHINE, reveal_options(groups), distortions, ("bfv",))


def all_at(problem: Problem, side: str) -> tuple[int, ...]:
    """Every layer at one side, all encrypted."""
    return tuple(next(n for n, option in enumerate(options) if option.side == side) for options in problem.options)


def sub_problem(problem: Problem, count: int) -> Problem:
    """The first groups of a problem."""
    before = tuple(tuple(earlier for earlier in read if earlier < count) for read in problem.before[:count])
    return replace(problem, names=problem.names[:count], options=problem.options[:count], before=before)


def test_all_encrypted_is_what_the_plan_predicts(graph: ModelGraph, strict: Problem) -> None:
    assert sum(len(names) for names in strict.names) == 33
    totals, prediction = totals_of(strict, all_at(strict, "server")), predict_graph(graph, MACHINE)
    assert totals.rounds == prediction.total.rounds == 20
    assert totals.latency_s == pytest.approx(prediction.latency_s, rel=1e-2)
    assert totals.server_mib == pytest.approx(prediction.peak_mib)
    assert rounds_of(strict, all_at(strict, "client")) == totals.leakage == totals.client_weights_mib == 0


@pytest.mark.parametrize(
    "budgets",
    [
        Budgets(),
        Budgets(client_weights_mib=0.02),
        Budgets(client_weights_mib=0.0),
        Budgets(client_weights_mib=0.0, leakage=0.2),
        Budgets(client_weights_mib=0.01, distortion=2e-3),
        Budgets(rounds=3, leakage=0.1, client_weights_mib=0.02),
    ],
)
def test_a_small_problem_against_every_plan(revealing: Problem, budgets: Budgets) -> None:
    problem = sub_problem(revealing, 6)
    every = [totals_of(problem, choice) for choice in product(*(range(len(options)) for options in problem.options))]
    best = optimise(problem, budgets)
    assert budgets.kept_by(best.totals)
    assert best.totals.latency_s == pytest.approx(min(totals.latency_s for totals in every if budgets.kept_by(totals)), abs=1e-5)
    assert best.gap_s <= GAP * best.totals.latency_s


@pytest.mark.parametrize("budgets", [Budgets(), Budgets(client_weights_mib=0.05), Budgets(leakage=0.3, distortion=0.1)])
def test_never_slower_than_other_plans(revealing: Problem, budgets: Budgets) -> None:
    """All at the client, all encrypted, and 200 random plans that keep the budgets."""
    rng, best, compared = np.random.default_rng(0), optimise(revealing, budgets), 0
    random = (random_choice(revealing, rng) for _ in range(20_000))
    for choice in (all_at(revealing, "client"), all_at(revealing, "server"), *random):
        totals = totals_of(revealing, choice)
        if budgets.kept_by(totals):
            compared += 1
            assert best.totals.latency_s <= totals.latency_s + 1e-5
        if compared == 202:
            break
    assert compared >= 201


@pytest.fixture(scope="module")
def in_a_run(graph: ModelGraph) -> Problem:
    """Client or server, a part of whose replies the client may keep for a run."""
    return problem_of(graph, MACHINE, backends=("bfv",), run=Run(25, 100_000))


def amount_of(problem: Problem, choice: tuple[int, ...], goal: str) -> float:
    """What is minimised for a goal, counted by hand."""
    taken = [options[number].cost for options, number in zip(problem.options, choice, strict=True)]
    cost = sum(taken, Cost(rounds=rounds_of(problem, choice)))
    return objective(cost, replace(problem.machine, goal=goal))


@pytest.mark.parametrize("goal", GOALS)
def test_a_goal_against_every_plan(in_a_run: Problem, goal: str) -> None:
    problem = sub_problem(in_a_run, 6)
    problem = replace(problem, machine=replace(MACHINE, goal=goal))
    budgets = Budgets(client_weights_mib=0.01, mb_first=0.9)
    choices = [choice for choice in product(*(range(len(options)) for options in problem.options)) if room(problem, choice)]
    least = min(amount_of(problem, choice, goal) for choice in choices if budgets.kept_by(totals_of(problem, choice)))
    best = optimise(problem, budgets)
    assert budgets.kept_by(best.totals)
    assert least <= amount_of(problem, best.choice, goal) <= least * (1 + GAP) + 1e-6


def room(problem: Problem, choice: tuple[int, ...]) -> bool:
    """Whether the client has room for what it keeps."""
    taken = (options[number] for options, number in zip(problem.options, choice, strict=True))
    return sum(option.client_cache for option in taken) <= problem.client_cache_bytes


def test_every_goal_is_better_at_its_own_than_the_others(in_a_run: Problem) -> None:
    def best(goal: str) -> tuple[int, ...]:
        return optimise(replace(in_a_run, machine=replace(MACHINE, goal=goal)), Budgets(client_weights_mib=0.02)).choice

    plans = {goal: best(goal) for goal in GOALS}
    for goal in GOALS:
        own = amount_of(in_a_run, plans[goal], goal)
        assert all(own <= amount_of(in_a_run, other, goal) * (1 + GAP) + 1e-6 for other in plans.values())
    assert len(set(plans.values())) > 1


@pytest.mark.parametrize(("name", "goal", "held_mib"), [("mb_first", "latency", 0.03), ("mb_later", "client-cpu", 0.06)])
def test_bytes_are_a_budget(in_a_run: Problem, name: str, goal: str, held_mib: float) -> None:
    held = Budgets(client_weights_mib=held_mib)
    free = optimise(replace(in_a_run, machine=replace(MACHINE, goal=goal)), held)
    least_mb = refused(in_a_run, within(held, {name: 0.01}))[1][name]
    limit = (getattr(free.totals, name) + least_mb) / 2
    assert least_mb < limit
    limited = optimise(replace(in_a_run, machine=replace(MACHINE, goal=goal)), replace(held, **{name: limit}))
    assert getattr(limited.totals, name) <= limit < getattr(free.totals, name)
    least = refused(in_a_run, within(Budgets(client_weights_mib=0.0), {name: 0.01}))[1]
    assert least[name] > 0.1
    assert least["client_weights_mib"] > 0.1


def test_bytes_of_a_run_are_what_the_plan_predicts(graph: ModelGraph, in_a_run: Problem) -> None:
    """Every layer that can keep data for the run does, so that there is nothing to choose."""
    much = replace(in_a_run, client_cache_bytes=1 << 40)
    totals = optimise(much, Budgets(client_weights_mib=0.0)).totals
    prediction = predict_graph(graph, MACHINE, run=Run(25, 1 << 40))
    assert totals.mb_first * 1e6 == pytest.approx(prediction.total.sent_bytes, rel=1e-2)
    assert totals.mb_later * 1e6 == pytest.approx(prediction.later.sent_bytes, rel=1e-2)


def random_choice(problem: Problem, rng: np.random.Generator) -> tuple[int, ...]:
    """Mostly at one side, mostly all encrypted, more or less."""
    server, shown = rng.random(), rng.random() ** 2
    return tuple(
        0 if rng.random() > server else int(rng.integers(1, len(options))) if rng.random() < shown else 1
        for options in problem.options
    )


def test_the_same_plan_every_time(revealing: Problem) -> None:
    budgets = Budgets(client_weights_mib=0.05, leakage=0.2)
    assert optimise(revealing, budgets) == optimise(revealing, budgets)


def test_budgets_are_kept(revealing: Problem) -> None:
    everything = asdict(totals_of(revealing, all_at(revealing, "server")))
    assert optimise(revealing, Budgets(rounds=3, client_weights_mib=0.16)).totals.rounds <= 3
    for name, share in (("client_s", 0.98), ("distortion", 0.98), ("server_mib", 0.995)):  # most of the memory is the process
        budgets = Budgets(client_weights_mib=0.1, **{name: everything[name] * share})
        assert budgets.kept_by(optimise(revealing, budgets).totals)
    with pytest.raises(CompileError, match="no plan keeps"):
        optimise(revealing, Budgets(rounds=1, client_weights_mib=0.0))


FIELDS = {
    "--client-seconds": "client_s", "--most-rounds": "rounds", "--client-weights-mib": "client_weights_mib",
    "--most-distortion": "distortion", "--most-leakage": "leakage", "--server-mib": "server_mib",
    "--most-mb-first": "mb_first", "--most-mb-later": "mb_later",
}  # fmt: skip


def refused(problem: Problem, budgets: Budgets, pins: dict[str, str] | None = None) -> tuple[str, dict[str, float]]:
    """The error for budgets that no plan keeps, and the values that its help suggests, by field."""
    with pytest.raises(CompileError) as caught:
        optimise(problem, budgets, pins)
    flags = re.findall(r"(--[a-z-]+) ([\d.e-]+\d|\d)", caught.value.diagnostics[0].help)
    return str(caught.value), {FIELDS[flag]: float(value) for flag, value in flags}


def test_budgets_that_no_plan_keeps_are_named_with_what_is_enough(revealing: Problem) -> None:
    message, _ = refused(revealing, Budgets(rounds=1, client_weights_mib=0.0))
    assert message == (
        "error: no plan keeps to 1 request in a row and 0 MiB of weights at the client\n"
        "  help: --most-rounds 20 or --client-weights-mib 0.1385 is enough, the other budgets as they are"
    )


@pytest.mark.parametrize(
    "budgets",
    [
        Budgets(client_s=1e-4),
        Budgets(client_weights_mib=0.01, distortion=1e-4),
        Budgets(client_s=2e-4, client_weights_mib=0.1, leakage=0.0),
        Budgets(rounds=0, client_weights_mib=0.01, leakage=0.0),
    ],
    ids=str,
)
def test_each_budget_that_is_said_to_be_enough_is(revealing: Problem, budgets: Budgets) -> None:
    message, enough = refused(revealing, budgets)
    assert "is enough" in message
    for name, value in enough.items():
        assert optimise(revealing, within(budgets, {name: value}))
        with pytest.raises(CompileError):
            optimise(revealing, within(budgets, {name: value * 0.99}))


@pytest.mark.parametrize(
    "budgets",
    [
        Budgets(client_s=2e-4, rounds=0, client_weights_mib=0.0),
        Budgets(rounds=1, client_weights_mib=0.0, server_mib=10.0),
        Budgets(client_s=2e-4, client_weights_mib=0.0, distortion=1e-7, leakage=0.0),
    ],
    ids=str,
)
def test_the_nearest_plan_is_one(revealing: Problem, budgets: Budgets) -> None:
    message, nearest = refused(revealing, budgets)
    assert "one budget alone is not enough" in message
    assert optimise(revealing, within(budgets, nearest))


def test_pins_may_be_what_stands_in_the_way(strict: Problem) -> None:
    message, enough = refused(strict, Budgets(rounds=0), {"conv_in*": "server"})
    assert message.endswith("--most-rounds 1 is enough; or remove a pin")
    assert enough == {"rounds": 1}


def test_less_is_encrypted_only_where_leakage_is_allowed(revealing: Problem) -> None:
    for leakage in (0.0, None):
        plan = optimise(revealing, Budgets(client_weights_mib=0.0, leakage=leakage))
        assert (min(plan.encrypted.values()) < 1) == (leakage is None)
        assert (plan.totals.leakage > 0) == (leakage is None)


def test_pins(strict: Problem) -> None:
    plan = optimise(strict, pins={"conv_in*": "server", "*time_emb_proj*": "client"})
    assert any(name.startswith("conv_in") for name in plan.server)
    assert not any("time_emb_proj" in name for name in plan.server)
    for pins in ({"nothing*": "server"}, {"conv_in*": "moon"}):
        with pytest.raises(CompileError, match="matches no layer, or names an unknown side"):
            optimise(strict, pins=pins)


def test_an_optimised_artifact_computes_the_same_with_fewer_rounds(tmp_path: Path) -> None:
    """What stays at the client is exact, so the result can only come closer to the model."""
    import torch

    import hecompile
    from hecompile.compiler import compile_model
    from hecompile.options import CompileOptions
    from tests.networks import Tiny, tiny_inputs

    options = CompileOptions(backend="clear", partition="optimised", most_rounds=2, client_weights_mib=0.0008, max_batch=2)
    compiled = compile_model(Tiny().eval(), tmp_path / "a", options=options, example_inputs=tiny_inputs())
    assert 1 <= program_of(compiled).plan.rounds <= 2
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
            CompileOptions(**options)


@pytest.mark.parametrize(("profile", "cheaper"), [({}, "bfv"), ({"encrypt_ns": 5e5, "decrypt_ns": 5e5}, "concrete")])
def test_the_cheaper_backend_is_chosen(graph: ModelGraph, profile: dict[str, Any], cheaper: str) -> None:
    machine = Machine(**profile)
    problem = problem_of(graph, machine, backends=("bfv", "concrete"))
    plan = optimise(problem, Budgets(client_weights_mib=0.0))
    assert set(plan.backends.values()) == {cheaper}
    alone = optimise(problem_of(graph, machine, backends=("bfv",)), Budgets(client_weights_mib=0.0))
    assert plan.totals.latency_s <= alone.totals.latency_s
    assert plan.totals.latency_s == pytest.approx(totals_of(problem, plan.choice).latency_s)


@pytest.mark.fhe
def test_a_plan_may_mix_bfv_and_concrete(tmp_path: Path) -> None:
    """Where a polynomial costs as much as a few integers of Concrete, small linears go to the one and convs to the other."""
    import torch

    import hecompile
    from hecompile.compiler import compile_model
    from hecompile.machine import save_machine
    from hecompile.options import CompileOptions
    from tests.networks import Tiny, tiny_inputs

    save_machine(Machine(encrypt_ns=2000.0), tmp_path / "machine.json")
    options = CompileOptions(
        partition="optimised", client_weights_mib=0.0, among=("concrete",), machine=str(tmp_path / "machine.json"), max_batch=2
    )
    compiled = compile_model(Tiny().eval(), tmp_path / "a", options=options, example_inputs=tiny_inputs())
    assert {region.backend for region in program_of(compiled).calls.values()} == {"bfv", "concrete"}
    with torch.no_grad():
        expected = Tiny().eval()(**tiny_inputs())
    result = hecompile.load(tmp_path / "a")(**tiny_inputs())
    assert (result - expected).abs().max() < 0.02 * expected.abs().max()


def test_backends_that_cannot_stand_beside_each_other_are_refused() -> None:
    from hecompile.options import CompileOptions

    for options in (
        {"among": ("concrete",)}, {"partition": "optimised", "among": ("ckks",)}, {"partition": "optimised", "among": ("bfv",)},
        {"partition": "optimised", "backend": "clear", "among": ("concrete",)},
    ):  # fmt: skip
        with pytest.raises(CompileError):
            CompileOptions(**options)
