"""Which layers have a seed for a run: within the client's memory and the security bits, and priced as they run."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from hecompile.backends.bfv.backend import BfvBackend
from hecompile.backends.bfv.client import BfvClient
from hecompile.backends.bfv.costs import kept_bytes
from hecompile.backends.bfv.messages import FIRST, LATER
from hecompile.backends.bfv.parameters import Parameters
from hecompile.backends.bfv.program import LayerProgram, region_program
from hecompile.backends.bfv.rings import Q_BITS, REUSED_Q_BITS, secrets_of
from hecompile.backends.bfv.sharing import most_requests
from hecompile.compiler import Compiled, compile_model
from hecompile.errors import CompileError
from hecompile.ir.candidates import kept_within
from hecompile.machine import Machine
from hecompile.options import CompileOptions
from hecompile.planner.optimise import Budgets, best_plan
from hecompile.planner.plan import Prediction, predict_graph, predict_regions
from hecompile.planner.problem import Run, problem_of
from hecompile.security.table import security_bits
from tests.networks import Tiny, tiny_inputs
from tests.programs import program_of
from tests.stages import partitioned

CALLS = 25


@cache
def compiled(cache_mib: float = 256.0, calls: int = CALLS) -> Compiled:
    options = CompileOptions(max_batch=2, client_cache_mib=cache_mib, run_calls=calls if cache_mib else None)
    return compile_model(Tiny(), options=options, example_inputs=tiny_inputs())


def layers_of(model: Compiled) -> dict[str, tuple[LayerProgram, ...]]:
    halves = {name: region.lowered for name, region in program_of(model).calls.items()}
    return {name: region_program(half.client).body.layers for name, half in halves.items() if half is not None}


def most_kept(layer: LayerProgram) -> int:
    """Bytes that the client keeps for a layer, at the batch where it keeps most."""
    rows = enumerate(layer.packings, start=1)
    return max(kept_bytes(layer.layout(batch), layer.parameters.q_bits, (row.drop_b, row.drop_a)) for batch, row in rows)


def predicted(model: Compiled) -> Prediction:
    """The prediction for the regions of a compiled model, as `inspect --measured` makes it."""
    regions = {name: region.lowered for name, region in program_of(model).calls.items()}
    per_run = {step.region for step in program_of(model).plan.steps if step.per_run}
    parts = {name: BfvBackend().price(half.client, Machine(), 1) for name, half in regions.items() if half is not None}
    return predict_regions(parts, Machine(), per_run=per_run)


def test_every_layer_of_a_run_shares_if_there_is_room() -> None:
    layers = layers_of(compiled())
    assert {layer.requests for name, of_region in layers.items() for layer in of_region if name != "per_run_01"} == {CALLS}
    assert [layer.requests for layer in layers["per_run_01"]] == [1]  # what is sent once a run has no later request


def test_none_does_without_room() -> None:
    assert {layer.requests for of_region in layers_of(compiled(0.0)).values() for layer in of_region} == {1}


def test_the_clients_memory_is_a_limit() -> None:
    everything = [most_kept(layer) for of_region in layers_of(compiled()).values() for layer in of_region if layer.requests > 1]
    for share in (0.05, 0.3):
        budget = share * sum(everything)
        layers = [layer for of_region in layers_of(compiled(budget / 2**20)).values() for layer in of_region]
        kept = [most_kept(layer) for layer in layers if layer.requests > 1]
        assert 0 < len(kept) < len(everything)
        assert sum(kept) <= budget


def test_a_run_is_no_longer_than_was_asked_for() -> None:
    assert {layer.requests for layer in layers_of(compiled(256.0, 4))["call_01"]} == {4}
    for wrong in (1, 1001):
        with pytest.raises(CompileError, match="calls"):
            CompileOptions(run_calls=wrong)


def test_no_seed_serves_more_than_the_gate_allows() -> None:
    for q_bits in range(Q_BITS[0], Q_BITS[1] + 1):
        parameters = Parameters(2048, q_bits, 16, 127)
        requests = most_requests(parameters, 1000, 128)
        assert requests == 1 if q_bits > REUSED_Q_BITS else requests > 100
        if requests > 1:
            assert security_bits(2048, q_bits, secrets_of(64, requests)) >= 128
            assert requests == 1000 or security_bits(2048, q_bits, secrets_of(64, requests + 1)) < 128
    assert most_requests(Parameters(2048, 48, 26, 2047), 25, 128) == 25


def test_a_document_of_a_longer_run_than_is_safe_is_refused() -> None:
    """A hostile server may write a document that the compiler would not."""
    region = program_of(compiled()).calls["call_01"]
    assert region.lowered is not None
    program: dict[str, Any] = dict(region.lowered.client.program)
    program["layers"] = [{**layer, "requests": 1 << 15} for layer in program["layers"]]
    assert BfvBackend().check_security(region.lowered.client, 128) == []
    assert any(
        "128 bits" in message for message in BfvBackend().check_security(replace(region.lowered.client, program=program), 128)
    )


def test_predicted_bytes_are_those_of_first_and_later_requests() -> None:
    model = compiled()
    first_up = later_up = first_down = later_down = 0
    for name, region in program_of(model).calls.items():
        assert region.lowered is not None
        client, server = BfvBackend().load_client(region.lowered.client), BfvBackend().load_server(region.lowered.server)
        assert isinstance(client, BfvClient)
        shapes = [program_of(model).plan.value(source).at(1) for source in region.inputs]
        client.start_run()
        seen = []
        for _ in range(2):
            pieces, pending = client.encrypt([np.ones(shape, np.float32) for shape in shapes], 1)
            payload = b"".join(pieces)
            reply = server.evaluate(payload, 1)
            client.decrypt(reply, pending)
            seen.append((payload, reply))
        per_run = name == "per_run_01"
        assert per_run or [payload[0] for payload, _ in seen] == [FIRST, LATER]
        first_up, first_down = first_up + len(seen[0][0]), first_down + len(seen[0][1])
        if not per_run:
            later_up, later_down = later_up + len(seen[1][0]), later_down + len(seen[1][1])
    prediction = predicted(model)
    assert (prediction.total.up_bytes, prediction.total.down_bytes) == (first_up, first_down)
    assert (prediction.later.up_bytes, prediction.later.down_bytes) == (later_up, later_down)
    assert prediction.later.server_s < prediction.total.server_s


def test_a_plan_predicts_what_is_compiled() -> None:
    graph = partitioned(CompileOptions())
    for cache_mib in (0.0, 0.02, 256.0):
        run = Run(CALLS, int(cache_mib * 2**20)) if cache_mib else None
        before, after = predict_graph(graph, Machine(), run=run), predicted(compiled_one(cache_mib))
        for name in ("total", "later"):
            want, got = getattr(after, name), getattr(before, name)
            assert (got.up_bytes, got.down_bytes) == (want.up_bytes, want.down_bytes)
        assert before.cache_mib == pytest.approx(after.cache_mib)
        assert before.cache_mib <= cache_mib


@cache
def compiled_one(cache_mib: float) -> Compiled:
    """For batches of one, as a plan is for."""
    options = CompileOptions(max_batch=1, client_cache_mib=cache_mib)
    return compile_model(Tiny(), options=options, example_inputs=tiny_inputs())


def test_the_fastest_plan_keeps_what_the_client_has_room_for() -> None:
    graph = partitioned(CompileOptions())
    server = dict.fromkeys(["*"], "server")

    def latency_s(cache_mib: float) -> float:
        problem = problem_of(graph, Machine(), backends=("bfv",), run=Run(CALLS, int(cache_mib * 2**20)))
        plan = best_plan(problem, Budgets(), server)
        assert plan is not None
        taken = [options[number] for options, number in zip(problem.options, plan.choice, strict=True)]
        assert sum(option.client_cache for option in taken) <= cache_mib * 2**20
        return plan.totals.latency_s

    none, some, much = (latency_s(cache_mib) for cache_mib in (0.0, 0.02, 256.0))
    assert much < some < none


def best_gain(offers: list[list[tuple[float, int]]], most: int) -> float:
    """The largest gain that fits into `most`, by trying every combination."""
    ways = itertools.product(*([(0.0, 0), *offer] for offer in offers))
    return max(sum(gain for gain, _ in way) for way in ways if sum(size for _, size in way) <= most)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_kept_is_worth_its_bytes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    offers = [
        [(float(rng.uniform(-0.2, 1.0)), int(rng.integers(1, 100))) for _ in range(rng.integers(0, 3))] for _ in range(7)
    ]  # fmt: skip
    for most in (0, 30, 150, 1000):
        kept = kept_within(offers, most)
        taken = [offers[place][number] for place, number in kept.items()]
        assert sum(size for _, size in taken) <= most
        assert all(gain > 0 for gain, _ in taken)
        largest = max((gain for offer in offers for gain, _ in offer), default=0.0)
        assert sum(gain for gain, _ in taken) >= best_gain(offers, most) - (largest if most < 1000 else 1e-9)
