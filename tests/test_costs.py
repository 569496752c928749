"""Predictions: of the right size, from profiles that make sense, and honest about what they assume."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hecompile.artifact import read_half, read_manifest
from hecompile.backends.integer import region_program
from hecompile.cost.machine import Machine, load_machine, save_machine
from hecompile.cost.measure import measure_machine
from hecompile.cost.plan import predict_graph, predict_programs, refuse_without_memory
from hecompile.cost.source import partitioned, predict_source
from hecompile.errors import CompileError
from hecompile.ir.graph import ModelGraph
from hecompile.runtime.bundle import load_bundle


def programs(folder: Path) -> list[object]:
    manifest = read_manifest(folder)
    steps = [step for step in manifest.plan.steps if step.kind == "call"]
    return [region_program(read_half(folder, manifest.files, f"client/{step.region}")) for step in steps]


def test_bytes_and_rounds_are_those_of_the_artifact(digits: Path) -> None:
    prediction = predict_programs(programs(digits), Machine())  # type: ignore[arg-type]
    calls = load_bundle(digits).calls.values()
    assert prediction.total.up_bytes == sum(client.request_bytes(1) for client in calls)
    assert prediction.total.down_bytes == sum(client.reply_bytes(1) for client in calls)
    assert prediction.total.rounds == 20


@pytest.fixture(scope="module")
def graph() -> ModelGraph:
    return partitioned("digits")


def test_a_slower_network_costs_what_it_costs(graph: ModelGraph) -> None:
    near, far = (predict_graph(graph, Machine(rtt_ms=rtt_ms)) for rtt_ms in (0.0, 20.0))
    assert far.latency_s - near.latency_s == pytest.approx(20 * 0.020)
    assert not near.worst_case_weights  # digits has weights
    assert near.document()["rounds"] == 20


def test_more_elements_cost_more_but_less_each(graph: ModelGraph) -> None:
    one, ten = (predict_graph(graph, Machine(), batch).total for batch in (1, 10))
    assert one.client_s < ten.client_s < 10 * one.client_s


def test_a_profile_is_measured_and_read_back(tmp_path: Path) -> None:
    found = measure_machine(runs=1)
    save_machine(found, tmp_path / "machine.json")
    assert load_machine(tmp_path / "machine.json") == found
    assert found.mac_ps > 0


@pytest.mark.parametrize("document", ["", "[]", "{}x", '{"nonsense": 1}', '{"encrypt_us": -1}', '{"encrypt_us": "fast"}'])
def test_profiles_that_make_no_sense(tmp_path: Path, document: str) -> None:
    (tmp_path / "machine.json").write_text(document)
    with pytest.raises(CompileError):
        load_machine(tmp_path / "machine.json")


def test_too_little_memory_is_refused_with_advice(graph: ModelGraph) -> None:
    prediction = predict_graph(graph, Machine())
    refuse_without_memory(prediction, 4096)
    with pytest.raises(CompileError, match=r"the server needs .* MiB, 1 MiB are free\n  help: serve it on"):
        refuse_without_memory(replace(prediction, peak_mib=5000.0), 1.0)


def test_a_model_without_weights_is_planned_but_not_compiled() -> None:
    import torch

    from hecompile.compiler import compile_model
    from hecompile.models.digits import build

    with torch.device("meta"):
        empty = build()
    with pytest.raises(CompileError, match="no weights"):
        compile_model(empty)


@pytest.mark.slow
def test_stable_diffusions_shape_is_planned_in_two_minutes() -> None:
    import time

    started = time.perf_counter()
    graph = partitioned("sd15-shaped")
    assert time.perf_counter() - started < 120
    assert sum(str(node.target).startswith("aten.conv2d") for node in graph.nodes) > 60
    json.dumps(predict_source("sd15-shaped", None, 20.0, 100.0, 1).document())
