"""What is sent once a run is a field of the nodes: a region may have any name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hecompile.ir.graph import ModelGraph, info
from hecompile.machine import Machine
from hecompile.options import CompileOptions
from hecompile.passes.split import Split
from hecompile.planner.plan import predict_graph
from tests.stages import partitioned


@pytest.fixture(scope="module")
def renamed() -> ModelGraph:
    """`Tiny` with the region of its condition, which does not change within a run, under another name."""
    graph = partitioned(CompileOptions())
    return graph.with_infos(
        lambda _, record: replace(record, region="prompt") if record.region == "per_run_01" else record
    )  # fmt: skip


def test_the_plan_sends_it_once(renamed: ModelGraph) -> None:
    per_run = {step.region: step.per_run for step in Split().run(renamed).plan.steps if step.kind == "call"}
    assert per_run == {"call_01": False, "call_02": False, "call_03": False, "call_04": False, "prompt": True}


def test_it_is_predicted_to_cost_a_call_no_round(renamed: ModelGraph) -> None:
    rounds = {region.region: region.cost.rounds for region in predict_graph(renamed, Machine()).regions}
    assert rounds["prompt"] == 0
    assert rounds["call_01"] == 1


def test_only_nodes_of_the_server_are_sent(renamed: ModelGraph) -> None:
    assert all(info(node).domain == "server_encrypted" for node in renamed.nodes if info(node).per_run)
