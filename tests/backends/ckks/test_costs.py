"""What a region costs: bytes predicted beside those sent, and a plan that takes it where rounds are dear."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hecompile.backends.ckks.backend import CkksBackend
from hecompile.backends.ckks.costs import cost_of
from hecompile.backends.ckks.document import read_document, read_tables
from hecompile.backends.ckks.measure import measure_ckks
from hecompile.backends.context import Context
from hecompile.backends.region_client import Secrets
from hecompile.backends.region_server import Session
from hecompile.backends.registry import proposals
from hecompile.compiler import Compiled
from hecompile.ir.graph import ModelGraph, info
from hecompile.machine import Machine
from hecompile.passes.partition import Partition
from hecompile.planner.optimise import Budgets, optimise
from hecompile.planner.problem import Problem, levels_of, totals_of
from hecompile.planner.proposals import problem_within
from tests.backends.ckks.regions import polynomial_region, values
from tests.payloads import encrypt_whole

pytestmark = pytest.mark.fhe  # the network is compiled once for all of them

FAR = Machine(rtt_ms=2000.0)
PRICED = Context(FAR, priced=True, proposals=proposals)


@pytest.fixture(scope="module")
def problem(graph: ModelGraph) -> Problem:
    return problem_within(graph, FAR, Budgets(), proposals("ckks", graph, PRICED))


def test_bytes_are_those_that_travel(with_polynomials: Compiled) -> None:
    lowered = polynomial_region(with_polynomials).lowered
    assert lowered is not None
    document = read_document(lowered.server)
    cost = cost_of(document, read_tables(lowered.server, document), replace(Machine(), **dict[str, Any](measure_ckks(1))))
    client, server = CkksBackend().load_client(lowered.client), CkksBackend().load_server(lowered.server)
    secrets = Secrets()
    keys = client.evaluation_keys(secrets)
    session = Session("0" * 32, {name: server.load_key(name, memoryview(key)) for name, key in keys.items()})
    payload, _ = encrypt_whole(client, values(with_polynomials, polynomial_region(with_polynomials), 1), 1, secrets)
    assert cost.up_bytes + 24 == len(payload)
    assert cost.down_bytes == len(server.evaluate(payload, 1, session))
    assert cost.key_bytes >= sum(map(len, keys.values()))
    assert min(cost.server_s, cost.client_s) > 0


def test_few_rounds_are_bought_with_a_multi_layer_region(graph: ModelGraph, problem: Problem) -> None:
    """The best plan on a near network is three rounds of bfv; with one round, or on a far network, a multi-layer region."""
    (region,) = problem.multi_layer_regions
    assert len(region.groups) == 3
    held = Budgets(client_weights_mib=0.0)
    near = replace(problem, machine=Machine())
    plans = [optimise(near, held), optimise(near, replace(held, rounds=1)), optimise(problem, held)]
    assert [(plan.totals.rounds, bool(plan.multi_layer_regions)) for plan in plans] == [(3, False), (1, True), (1, True)]
    assert plans[2].totals.latency_s < totals_of(problem, plans[0].choice).latency_s
    assert plans[1].totals.server_mib > plans[0].totals.server_mib + 1  # keys
    assert levels_of(problem, plans[0].choice) == [1, 2, 3]


def test_the_partition_follows_the_plan(graph: ModelGraph) -> None:
    for machine, expected in ((FAR, {"ckks"}), (Machine(), {"bfv"})):
        tagged = Partition("ckks", Context(machine), Budgets(client_weights_mib=0.0)).run(graph)
        assert {info(node).backend for node in tagged.nodes} - {None} == expected


def test_a_region_that_no_ring_carries_is_no_candidate(graph: ModelGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    from hecompile.backends.ckks import regions as module

    (priced,) = [candidate for candidate in proposals("ckks", graph, PRICED) if candidate.whole]
    assert (priced.depth, priced.cost.key_bytes > 1 << 20) == (5, True)
    monkeypatch.setattr(module, "MOST_ERROR", 1e-9)
    assert not [candidate for candidate in proposals("ckks", graph, PRICED) if candidate.whole]
