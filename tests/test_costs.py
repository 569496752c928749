"""Predictions: of the right size, from profiles that make sense, and honest about what they assume."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from hecompile.artifact import read_manifest
from hecompile.artifact_files import read_client_half
from hecompile.backends.bfv.pricing import cost_of, parameters_for, revealed_of
from hecompile.backends.registry import backend_of
from hecompile.compiler import Compiled, compile_model
from hecompile.errors import CompileError
from hecompile.ir.candidates import Cost
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.layer_groups import LayerGroup, layer_groups, macs_of, weights_of
from hecompile.ir.layers import secret_shapes
from hecompile.ir.linear import conv2d
from hecompile.ir.tiles import Tiles
from hecompile.machine import PROFILE_VERSION, Machine, load_machine, machine_with, save_machine, seconds_of
from hecompile.measure.artifact import compare, measure_artifact, predict_artifact
from hecompile.measure.machine import measure_machine
from hecompile.options import CompileOptions
from hecompile.planner.choices import options_of, reveal_options
from hecompile.planner.plan import Prediction, predict_graph, predict_regions, refuse_without_memory
from hecompile.planner.problem import Run
from hecompile.planner.proposals import pins_of
from hecompile.predict import machine_of, optimised, partitioned, predict_source, run_of
from hecompile.runtime.bundle import load_bundle
from hecompile.timing import explain
from tests.networks import Tiny, tiny_inputs
from tests.programs import program_of


def predicted(folder: Path) -> Prediction:
    """Of an artifact's regions, without the client's own."""
    manifest = read_manifest(folder)
    names = [step.region for step in manifest.plan.steps if step.kind == "call"]
    halves = {name: read_client_half(folder, manifest.files, f"client/{name}") for name in names}
    return predict_regions({name: backend_of(half).price(half, Machine(), 1) for name, half in halves.items()}, Machine())


def test_bytes_and_rounds_are_those_of_the_artifact(digits: Path) -> None:
    prediction = predicted(digits)
    calls = load_bundle(digits).calls.values()
    assert prediction.total.up_bytes == sum(client.request_bytes(1) for client in calls)
    assert prediction.total.down_bytes == sum(client.reply_bytes(1) for client in calls)
    assert prediction.total.rounds == 20


@pytest.fixture(scope="module")
def graph() -> ModelGraph:
    return partitioned("digits")


def test_a_graph_with_weights_costs_what_its_artifact_does(graph: ModelGraph, digits: Path) -> None:
    before, after = predict_graph(graph, Machine(), run=run_of()), predicted(digits)
    assert [(region.region, region.layers) for region in before.regions] == [
        (region.region, region.layers) for region in after.regions
    ]
    assert (before.total.up_bytes, before.total.down_bytes) == (after.total.up_bytes, after.total.down_bytes)
    assert (before.total.server_s, before.peak_mib) == pytest.approx((after.total.server_s, after.peak_mib))


def test_a_slower_network_costs_what_it_costs(graph: ModelGraph) -> None:
    near, far = (predict_graph(graph, Machine(rtt_ms=rtt_ms)) for rtt_ms in (0.0, 20.0))
    assert far.latency_s - near.latency_s == pytest.approx(20 * 0.020)
    assert near.worst_case is None  # digits has weights
    assert near.document()["rounds"] == 20


def test_more_elements_cost_more_but_less_each(graph: ModelGraph) -> None:
    one, ten = (predict_graph(graph, Machine(), batch).total for batch in (1, 10))
    assert one.client_s < ten.client_s < 10 * one.client_s


@pytest.mark.fhe
def test_a_profile_is_measured_and_read_back(tmp_path: Path) -> None:
    machine = measure_machine(runs=1)
    save_machine(machine, tmp_path / "machine.json")
    assert load_machine(tmp_path / "machine.json") == machine
    assert min(machine.mac_ps, machine.server_request_us, machine.client_request_us) > 0


def test_prices_of_other_packages_are_kept(tmp_path: Path) -> None:
    machine = machine_with({"mac_ps": 3.0, "theirs.word_ns": 0.25})
    save_machine(machine, tmp_path / "machine.json")
    loaded = load_machine(tmp_path / "machine.json")
    assert loaded == machine
    assert dict(loaded.other_backends) == {"theirs.word_ns": 0.25}
    with pytest.raises(CompileError, match="word_ns is -1"):
        machine_with({"theirs.word_ns": -1.0})


# the fields of a profile of an earlier version, with its numbers
EARLIER = {
    "mac_ps": 4.9, "word_ns": 1.4, "ntt_ns": 2.8, "pair_ns": 0.1, "layer_us": 305.0, "reveal_us": 500.0, "encrypt_ns": 10.8,
    "decrypt_ns": 4, "way_us": 196.0, "switch_ns": 18.7, "product_ns": 4.0, "rescale_ns": 10.3, "encode_ns": 19.9, "load_ns": 29.8,
    "seal_ns": 116.5, "open_ns": 66.2, "request_us": 1760.4, "float_ps": 6.3, "node_us": 0.8, "entry_ns": 0.1, "lookup_ps": 196.5,
    "key_mib_ms": 6.6, "lwe_ps": 463.5, "lwe_expand_us": 78, "lwe_answer_us": 21.1, "lwe_encrypt_us": 75.4, "lwe_decrypt_us": 43.6,
    "base_mib": 137.1, "bandwidth_mbps": 1000.0, "rtt_ms": 0.0,
}  # fmt: skip


@pytest.mark.parametrize(
    "change", [{"version": None}, {"version": PROFILE_VERSION - 1}, {"gather_ns": None}, {"limb_bits": 8.0}, EARLIER]
)
def test_profiles_of_another_version_are_refused(tmp_path: Path, change: dict[str, float | None]) -> None:
    """One of an earlier version, and one of this version with a field less or more, or that says it has another version."""
    path = tmp_path / "machine.json"
    save_machine(Machine(), path)
    document = EARLIER if change is EARLIER else json.loads(path.read_text()) | change
    path.write_text(json.dumps({name: value for name, value in document.items() if value is not None}))
    with pytest.raises(CompileError) as refusal:
        load_machine(path)
    assert (
        str(refusal.value) == f"error: {path} was not measured for this version of hecompile: run `hecompile measure-machine` again"
    )


@pytest.mark.parametrize("document", ["", "[]", "{}x", '{"nonsense": 1}', '{"encrypt_ns": -1}', '{"encrypt_ns": "fast"}'])
def test_profiles_that_make_no_sense(tmp_path: Path, document: str) -> None:
    (tmp_path / "machine.json").write_text(document)
    with pytest.raises(CompileError):
        load_machine(tmp_path / "machine.json")


def test_times_are_explained_by_what_was_done() -> None:
    """Exact times give their prices back; a price that would be negative is zero."""
    rng = np.random.default_rng(0)
    amounts, prices = rng.random((12, 3)), np.array([2.0, 0.0, 5e-3])
    assert explain(amounts, amounts @ prices) == pytest.approx(prices, abs=1e-6)
    assert explain(amounts, amounts @ np.array([2.0, -0.1, 1.0])).min() == 0


def test_what_is_revealed_costs_less_than_what_is_encrypted() -> None:
    geometry, _ = conv2d(np.ones((64, 64, 3, 3)), (16, 16), (1, 1), (1, 1), (1, 1), 1)
    group, costs = LayerGroup(("y",), ("y",), "x", geometry, 1, ChannelSplit(64)), list[Cost]()
    for count in (0, 32, 48):
        split = ChannelSplit(64, tuple(range(count)))
        choice = parameters_for(group, Machine(), split=split)
        assert choice is not None
        costs.append(cost_of(choice, Machine(), revealed_of(geometry, split, 1, choice.parameters.t_bits)))
    assert [cost.revealed for cost in costs] == [0, 32 * 256, 48 * 256]
    for more, less in pairwise(costs):
        assert less.server_s < more.server_s
        assert less.client_s < more.client_s
        assert seconds_of(less, Machine()) < seconds_of(more, Machine())


def test_a_plan_shows_what_zero_taps_and_channels_save() -> None:
    network = Tiny().eval()
    with torch.no_grad():
        network.first.weight[:, 1] = 0  # one of two channels
        network.last.weight[:, 3:] = 0  # three of six
        network.down.weight[:, :, 0] = 0  # one of three rows of taps
    graph = partitioned(network, tiny_inputs())
    prediction = predict_graph(graph, Machine())
    by_region = {region.region: region.skipped_macs for region in prediction.regions}
    assert (by_region["call_01"], by_region["call_04"]) == (6 * 9 * 16, 2 * 3 * 16)  # outputs, channels, taps, places
    assert by_region["call_02"] > 0
    assert by_region["call_03"] == by_region["per_run_01"] == 0
    everything = sum(macs_of(shape.geometry) for shape in secret_shapes(graph))
    assert prediction.document()["skipped_share"] == pytest.approx(sum(by_region.values()) / everything)
    whole = sum(weights_of(shape.geometry) for shape in secret_shapes(graph))
    assert prediction.weight_mib * 2**20 == whole - sum(group.skipped for group in layer_groups(graph)) < whole


def quarter_encrypted(size: int, split: ChannelSplit) -> tuple[Cost, Cost]:
    """The costs of a convolution of 64 channels on a picture of this size: with all channels encrypted, and with this split."""
    geometry, _ = conv2d(np.ones((64, 64, 3, 3)), (size, size), (1, 1), (1, 1), (1, 1), 1)
    group, costs = LayerGroup(("y",), ("y",), "x", geometry, 1, ChannelSplit(64)), list[Cost]()
    for option in (ChannelSplit(64), split):
        choice = parameters_for(group, Machine(), split=option)
        assert choice is not None
        costs.append(cost_of(choice, Machine(), revealed_of(geometry, option, 1, choice.parameters.t_bits)))
    return costs[0], costs[1]


def test_tiles_save_where_a_picture_fills_polynomials_and_hardly_where_it_does_not() -> None:
    quarter = tuple(range(4))
    whole, tiles = quarter_encrypted(64, ChannelSplit(64, tiles=Tiles(16, 1, quarter)))
    all_of_it, channels = quarter_encrypted(64, ChannelSplit(64, tuple(range(48))))
    assert tiles.revealed == channels.revealed == 48 * 64 * 64
    assert tiles.up_bytes < 0.5 * whole.up_bytes
    assert (
        tiles.server_s < 1.1 * whole.server_s
    )  # the half of the work that blocks share is not less, and what is revealed is multiplied
    assert max(tiles.client_s, channels.client_s) < 0.75 * all_of_it.client_s
    whole, tiles = quarter_encrypted(8, ChannelSplit(64, tiles=Tiles(4, 4, quarter)))
    assert tiles.server_s > 0.75 * whole.server_s


def test_layers_may_reveal_tiles_where_their_pictures_have_several() -> None:
    large, _ = conv2d(np.ones((8, 8, 3, 3)), (64, 64), (1, 1), (1, 1), (1, 1), 1)
    small, _ = conv2d(np.ones((8, 8, 3, 3)), (8, 8), (1, 1), (1, 1), (1, 1), 1)
    groups = [LayerGroup((name,), (name,), "x", geometry, 1, ChannelSplit(8)) for name, geometry in (("a", large), ("b", small))]
    reveals = reveal_options(groups, tile=(16, 64))
    assert [option.tiles for option in reveals["a"]] == [(4, 1)] * 3
    assert [option.tiles for option in reveals["b"]] == [None] * 3
    for group in groups:
        client, *server = options_of(group, Machine(), reveals[group.names[0]], backends=("bfv",))
        assert client.side == "client"
        assert [option.encrypted for option in server] == [1.0, 0.75, 0.5, 0.25]
        entries = 8 * group.geometry.size[0] ** 2
        assert [option.cost.revealed for option in server] == [0, entries // 4, entries // 2, 3 * entries // 4]


@pytest.mark.parametrize("granularity", ["channel", "tile"])
def test_a_sparse_artifact_is_predicted_with_what_it_reveals(tmp_path: Path, granularity: str) -> None:
    tile = "2x2" if granularity == "tile" else None
    options = CompileOptions(policy="min-distortion", budget=0.5, max_batch=1, granularity=granularity, tile=tile)
    compiled = compile_model(Tiny().eval(), tmp_path / "a", options=options, example_inputs=tiny_inputs())
    prediction = predict_artifact(tmp_path / "a", Machine())
    declared = [int(line.split(", ")[1].split()[0]) for line in read_manifest(tmp_path / "a").reveals]
    assert prediction.total.revealed == sum(declared) > 0
    calls = load_bundle(tmp_path / "a", "min-distortion").calls.values()
    assert prediction.total.up_bytes == sum(client.request_bytes(1) for client in calls)
    assert prediction.total.down_bytes == sum(client.reply_bytes(1) for client in calls)
    assert any(linear_op.split.tiles for linear_op in program_of(compiled).linear_ops) == (granularity == "tile")


@pytest.mark.fhe
def test_prediction_beside_measurement(tiny: Compiled) -> None:
    """Bytes are equal but for headers; seconds depend on the machine, so only their places are looked at."""
    assert tiny.artifact is not None
    comparison = compare(predict_artifact(tiny.artifact, Machine()), measure_artifact(tiny.artifact, runs=1))
    totals = {row["what"]: row for row in comparison["total"]}
    assert set(totals) == {
        "server_s", "client_s", "server_process_s", "client_process_s", "wall_s", "bytes_up", "bytes_down", "peak_mib",
    }  # fmt: skip
    assert totals["server_process_s"]["predicted"] > totals["server_s"]["predicted"]
    assert totals["client_process_s"]["predicted"] > totals["client_s"]["predicted"]
    assert all(row["measured"] > 0 and row["predicted"] > 0 for row in totals.values())
    assert totals["bytes_down"]["ratio"] == 1
    assert 1 <= totals["bytes_up"]["ratio"] < 1.05
    assert {row["region"] for row in comparison["regions"]} == set(program_of(tiny).calls)


def test_client_regions_are_counted_alike_before_and_after(graph: ModelGraph, digits: Path) -> None:
    exported, machine = predict_artifact(digits, Machine()).local_s, Machine()
    assert exported / 2 < predict_graph(graph, machine).local_s < exported * 2


@pytest.mark.parametrize("pin", ["conv", ""])
def test_pins_have_a_side(pin: str) -> None:
    with pytest.raises(CompileError, match="layer=side"):
        pins_of([pin])
    assert pins_of(["a=b=server"]) == {"a=b": "server"}


def test_too_little_memory_is_refused_with_advice(graph: ModelGraph) -> None:
    prediction = predict_graph(graph, Machine())
    refuse_without_memory(prediction, 4096)
    with pytest.raises(CompileError, match=r"the server needs .* MiB, 1 MiB are free\n  help: serve it on"):
        refuse_without_memory(replace(prediction, peak_mib=5000.0), 1.0)


def test_a_model_without_weights_is_planned_but_not_compiled() -> None:
    import torch

    from hecompile.models.digits import build

    with torch.device("meta"):
        empty = build()
    with pytest.raises(CompileError, match="no weights"):
        compile_model(empty)


@pytest.mark.slow
def test_a_transformers_shape_is_planned_and_the_best_plan_spares_bytes() -> None:
    graph, machine, run = partitioned("dit-shaped"), machine_of(None, 0.0, 1000.0, "bytes"), run_of(1400.0, 25)
    options = CompileOptions(partition="optimised", client_weights_mib=32.0, goal="bytes")
    best = optimised(graph, machine, options, run)
    layers = {shape.nodes[-1] for shape in secret_shapes(graph)}
    at_client = [node for node in best.nodes if node.name in layers and info(node).domain == "client"]
    assert 1 <= len(at_client) < len(layers)
    before, after = (predict_graph(plan, machine, 1, run, worst_case=False) for plan in (graph, best))
    assert after.later.sent_bytes < before.later.sent_bytes
    assert after.weight_mib == pytest.approx(before.weight_mib - 32.0, abs=1.0)


def test_what_is_sent_once_a_run_is_priced_once_a_run(graph: ModelGraph) -> None:
    group = layer_groups(graph)[0]
    every, per_run = (
        options_of(group, Machine(), backends=("bfv",), calls=calls, per_run=per_run)[1]
        for calls, per_run in ((1, False), (25, True))
    )
    assert per_run.first_bytes == every.first_bytes == every.later_bytes == every.cost.sent_bytes
    assert per_run.later_bytes == 0
    assert per_run.cost.client_s == pytest.approx(every.cost.client_s / 25)
    assert per_run.cost.sent_bytes == pytest.approx(every.cost.sent_bytes / 25, abs=1)


def test_a_plan_with_budgets_that_nothing_keeps_is_refused() -> None:
    graph, machine = partitioned("digits"), machine_of(None, 0.0, 1000.0)
    options = CompileOptions(partition="optimised", client_weights_mib=0.0, most_mb_first=0.1)
    with pytest.raises(CompileError, match=r"0\.1 MB in the first call of a run"):
        optimised(graph, machine, options, Run())
    assert optimised(graph, machine, CompileOptions(), Run()) is graph


@pytest.mark.slow
@pytest.mark.parametrize("cache_mib", [0.02, 0.1, 1.0])
def test_a_first_call_sends_no_more_than_its_budget(cache_mib: float) -> None:
    """The least budget that a plan keeps to, its call keeps to, whatever is kept for a run once the layers are packed."""
    graph, machine, run = partitioned("digits"), machine_of(None, 0.0, 1000.0, "client-cpu"), run_of(cache_mib, 25)

    def planned(most_mb: float) -> ModelGraph:
        return optimised(graph, machine, CompileOptions(partition="optimised", client_weights_mib=0.05, most_mb_first=most_mb), run)

    with pytest.raises(CompileError) as refused:
        planned(0.1)
    least = re.search(r"--most-mb-first ([0-9.]+)", str(refused.value))
    assert least is not None
    most_mb = float(least.group(1))
    assert predict_graph(planned(most_mb), machine, 1, run).total.sent_bytes <= most_mb * 1e6


@pytest.mark.slow
def test_stable_diffusions_shape_is_planned() -> None:
    graph = partitioned("sd15-shaped")
    assert sum(str(node.target).startswith("aten.conv2d") for node in graph.nodes) > 60
    prediction = predict_source(graph, machine_of(None, 20.0, 100.0), 1, memory_mib=1e6)
    worst = prediction.worst_case
    assert worst is not None
    assert worst.total.down_bytes > prediction.total.down_bytes
    json.dumps(prediction.document())
