"""Reveals: none under strict, and under min-distortion only what is declared, rounded and within the budget over all steps."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hecompile
from hecompile.artifact import read_manifest
from hecompile.artifact_files import digest
from hecompile.artifact_writing import to_json
from hecompile.backends.bfv.program import LayerProgram
from hecompile.compiler import Compiled, compile_model
from hecompile.errors import CompileError, ProtocolError
from hecompile.ir import own_ops as own_ops  # makes the operator known
from hecompile.ir.graph import ModelGraph, copy_module, info, set_info
from hecompile.ir.halves import ClientHalf, ServerHalf
from hecompile.ir.layers import constant_of
from hecompile.ir.ops import REVEAL
from hecompile.options import CompileOptions
from hecompile.passes.check_secrecy import CheckSecrecy
from hecompile.policies import policy
from hecompile.policies.min_distortion import MinDistortion
from hecompile.report.tables import region_rows
from tests.artifacts import compile_once
from tests.networks import Tiny, tiny_inputs
from tests.payloads import encrypt_whole
from tests.programs import program_of
from tests.stages import partitioned

OPTIONS = CompileOptions(policy="min-distortion", budget=0.5, importance="magnitude", max_batch=2)


@pytest.fixture(scope="module")
def graph() -> ModelGraph:
    return partitioned(OPTIONS)


@pytest.fixture(scope="module")
def revealing() -> Compiled:
    return compile_once(Tiny, OPTIONS, tiny_inputs())


@pytest.fixture(scope="module")
def tiled() -> Compiled:
    return compile_once(Tiny, CompileOptions(choices=OPTIONS.choices, granularity="tile", tile="2x2"), tiny_inputs())


def revealed(graph: ModelGraph, value: str, encrypted: list[Any], shares: list[Any], bits: int = 8) -> ModelGraph:
    """The graph with a reveal more, as a pass of a careless user might leave it."""
    module = copy_module(graph.graph_module)
    node = next(node for node in module.graph.nodes if node.name == value)
    with module.graph.inserting_before(node.next):
        constants = []
        for name, tensor in (("more_encrypted", torch.tensor(encrypted)), ("more_shares", torch.tensor(shares))):
            module.register_buffer(name, tensor)
            constants.append(module.graph.get_attr(name))
            record = replace(info(node), shape=tuple(tensor.shape), dtype=str(tensor.dtype).removeprefix("torch."))
            set_info(constants[-1], replace(record, secret=False, domain="client"))
        reveal = module.graph.call_function(torch.ops.hecompile.reveal.default, (node, *constants, bits))
    set_info(reveal, replace(info(node), domain="server_clear", region=None))
    return replace(graph, graph_module=module)


def first_reveal(graph: ModelGraph) -> Any:
    return next(node for node in graph.nodes if str(node.target) == REVEAL)


def refuse(graph: ModelGraph, reason: str, budget: float = 0.5, declared: tuple[str, ...] = ()) -> None:
    with pytest.raises(CompileError, match=reason):
        CheckSecrecy(MinDistortion(budget, declared)).run(graph)


def test_what_the_pass_reveals_is_accepted(graph: ModelGraph) -> None:
    CheckSecrecy(MinDistortion(0.5)).run(graph)


def test_strict_refuses_every_reveal(graph: ModelGraph) -> None:
    with pytest.raises(CompileError, match="would reach the server in the clear"):
        CheckSecrecy(policy("strict")).run(graph)


@pytest.mark.promise("undeclared")
def test_the_noise_prediction_undeclared_is_refused(graph: ModelGraph) -> None:
    output = graph.outputs[0]
    leaking = revealed(graph, output, [True, False], [0.9, 0.1])
    refuse(leaking, f"%{output}, the noise prediction would be revealed undeclared")
    CheckSecrecy(MinDistortion(0.5, (output,))).run(leaking)


@pytest.mark.promise("undeclared")
def test_the_latent_undeclared_is_refused(graph: ModelGraph) -> None:
    leaking = revealed(graph, "sample", [True, False], [0.9, 0.1])
    refuse(leaking, "%sample, an input, from which the noise prediction follows, would be revealed undeclared")


@pytest.mark.promise("undeclared")
def test_the_prompt_undeclared_is_refused(graph: ModelGraph) -> None:
    label = next(node.name for node in graph.nodes if info(node).path == "label" and node.op == "call_function")
    refuse(revealed(graph, label, [False] + [True] * 5, [0.1] + [0.18] * 5), f"%{label} derives from the prompt or label alone")


def test_any_other_operation_at_the_server_in_clear_is_refused(graph: ModelGraph) -> None:
    output = graph.outputs[0]
    leaking = graph.with_infos(lambda node, record: replace(record, domain="server_clear") if node.name == output else record)
    refuse(leaking, f"%{output} would reach the server in the clear, undeclared")


@pytest.mark.promise("undeclared")
def test_a_reveal_of_everything_is_refused(graph: ModelGraph) -> None:
    value = first_reveal(graph).args[0]
    channels = int(str(info(value).shape[1]))
    refuse(revealed(graph, value.name, [False] * channels, [1 / channels] * channels), f"all of %{value.name} would be revealed")


@pytest.mark.promise("undeclared")
def test_a_reveal_at_full_precision_is_refused(graph: ModelGraph) -> None:
    value = first_reveal(graph).args[0]
    channels = int(str(info(value).shape[1]))
    masks = [False] + [True] * (channels - 1)
    refuse(revealed(graph, value.name, masks, [0.0] + [0.5] * (channels - 1), bits=32), f"%{value.name} .* full precision: 32 bits")


@pytest.mark.promise("budget")
def test_reveals_of_one_value_count_together(graph: ModelGraph) -> None:
    """Two masks within the budget, for different steps say, whose union is not."""
    reveal = first_reveal(graph)
    encrypted, shares = (constant_of(graph, argument) for argument in reveal.args[1:3])
    other = (~encrypted).tolist()  # just the channels that are encrypted now, but one
    other[encrypted.tolist().index(True)] = True
    value = reveal.args[0].name
    refuse(revealed(graph, value, other, shares.tolist()), f"%{value}: what is revealed over all steps has")


@pytest.mark.promise("budget")
def test_channels_and_tiles_of_one_value_count_together(graph: ModelGraph) -> None:
    reveal = first_reveal(graph)
    used = constant_of(graph, reveal.args[2])[~constant_of(graph, reveal.args[1])].sum().item()
    value, rest = reveal.args[0].name, 0.5 - used
    CheckSecrecy(MinDistortion(0.5)).run(revealed(graph, value, [[False, True]], [[rest * 0.99, 1 - rest * 0.99]]))
    more = revealed(graph, value, [[False, True]], [[rest * 1.01 + 1e-3, 1 - rest]])
    refuse(more, f"%{value}: what is revealed over all steps has")


def test_all_tiles_or_tiles_that_cannot_be_added_up_are_refused(graph: ModelGraph) -> None:
    value = first_reveal(graph).args[0].name
    refuse(revealed(graph, value, [[False, False]], [[0.0, 0.0]]), f"all of %{value} would be revealed")
    once = revealed(graph, value, [[False, True]], [[0.0, 1.0]])
    node = next(node for node in once.nodes if str(node.target) == REVEAL and constant_of(once, node.args[1]).ndim == 2)
    module = once.graph_module
    module.register_buffer("other_encrypted", torch.tensor([[False], [True]]))
    with module.graph.inserting_before(node):
        mask = module.graph.get_attr("other_encrypted")
        set_info(mask, replace(info(node.args[1]), shape=(2, 1)))
        assert callable(node.target)
        again = module.graph.call_function(node.target, (node.args[0], mask, mask, 8))
        set_info(again, info(node))
    refuse(once, f"%{value} is cut into tiles in two ways")


@pytest.mark.promise("budget")
def test_a_lower_budget_than_was_used_is_refused_and_names_the_value(graph: ModelGraph) -> None:
    value = first_reveal(graph).args[0].name
    refuse(graph, f"%{value}: what is revealed over all steps has .* the budget is 0.01", budget=0.01)


def test_strict_artifacts_contain_no_reveal(tiny: Compiled) -> None:
    assert tiny.artifact is not None
    manifest = json.loads((tiny.artifact / "manifest.json").read_text())
    assert manifest["policy"] == "strict"
    assert manifest["reveals"] == []
    programs = sorted(tiny.artifact.rglob("*/call_*.json"))
    assert programs
    for path in programs:
        splits = [layer["split"] for layer in json.loads(path.read_text())["layers"]]
        assert all(not split["revealed"] and split["tiles"] is None for split in splits)
    for path in sorted((tiny.artifact / "server").glob("*.safetensors")):
        assert b".revealed" not in path.read_bytes()


def test_reveals_are_in_the_manifest_the_report_and_the_log(revealing: Compiled, caplog: pytest.LogCaptureFixture) -> None:
    assert revealing.artifact is not None
    manifest = json.loads((revealing.artifact / "manifest.json").read_text())
    assert len(manifest["reveals"]) == 3
    report = (revealing.artifact / "report.html").read_text()
    assert report.count("No cryptographic guarantee") == 3
    hecompile.load(revealing.artifact, policy="min-distortion")
    assert "no cryptographic guarantee" in caplog.text


@pytest.mark.promise("declared")
def test_a_strict_client_refuses_the_artifact(revealing: Compiled) -> None:
    assert revealing.artifact is not None
    with pytest.raises(ProtocolError, match="compiled under policy 'min-distortion'"):
        hecompile.load(revealing.artifact)


@pytest.mark.promise("declared")
def test_a_client_refuses_reveals_that_the_manifest_hides(revealing: Compiled, tmp_path: Path) -> None:
    """As a malicious compiler would: checksums right, the manifest silent or the region's program revealing more."""
    assert revealing.artifact is not None
    artifact = Path(shutil.copytree(revealing.artifact, tmp_path / "artifact"))
    manifest = json.loads((artifact / "manifest.json").read_text())
    (artifact / "manifest.json").write_bytes(to_json(manifest | {"reveals": manifest["reveals"][:-1]}))
    with pytest.raises(ProtocolError, match="its manifest says"):
        hecompile.load(artifact, policy="min-distortion")
    (artifact / "manifest.json").write_bytes(to_json(manifest | {"policy": "strict", "reveals": []}))
    with pytest.raises(ProtocolError, match="not under policy 'strict'"):
        hecompile.load(artifact)
    with pytest.raises(ProtocolError, match="the manifest says nothing"):  # nor does a report repeat it
        region_rows(artifact, read_manifest(artifact))
    region = next(path for path in sorted((artifact / "client").glob("call_*.json")) if '"revealed": [\n' in path.read_text())
    program = json.loads(region.read_text())
    layer = next(layer for layer in program["layers"] if layer["split"]["revealed"])
    layer["split"]["bits"] = 11
    region.write_bytes(to_json(program))
    files = manifest["files"] | {f"client/{region.name}": digest(region.read_bytes())}
    (artifact / "manifest.json").write_bytes(to_json(manifest | {"files": files}))
    with pytest.raises(ProtocolError, match="at 11 bits"):
        hecompile.load(artifact, policy="min-distortion")


@pytest.mark.promise("declared")
def test_the_server_sees_the_declared_entries_rounded_and_no_others(revealing: Compiled) -> None:
    """The request's tail is what is revealed; two inputs that differ in an encrypted channel only have the same tail."""
    from hecompile.backends.bfv.program import region_program
    from hecompile.backends.registry import backend
    from tests.payloads import sizes

    for region in program_of(revealing).calls.values():
        assert region.lowered is not None
        layers = region_program(region.lowered.client).body.layers
        if len(layers) != 1 or not layers[0].split.revealed:
            continue
        split, size = layers[0].split, sizes(layers[0], 1)
        client = backend("bfv").load_client(region.lowered.client)
        shape = [1 if dim == "B" else int(dim) for dim in program_of(revealing).plan.value(region.inputs[0]).shape]
        value = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        value[0, split.encrypted[0]] = 9.0  # the largest entry stays, so that the scale does
        value[0, split.encrypted[0]].flat[0] = 10.0
        tails = []
        for change in (0.0, 0.5):
            value[0, split.encrypted[0]].flat[1] -= change
            payload, _ = encrypt_whole(client, [value], 1)
            tails.append(payload[-size.up_revealed :])
        assert tails[0] == tails[1]
        assert len(tails[0]) * 8 <= np.prod(shape) * len(split.revealed) / split.channels * split.bits + 7
        return
    raise AssertionError("no region reveals anything")


def revealing_layers(compiled: Compiled) -> list[tuple[LayerProgram, ClientHalf, ServerHalf]]:
    """Layers that reveal something and are alone in their region."""
    from hecompile.backends.bfv.program import region_program

    lone_layers = []
    for region in program_of(compiled).calls.values():
        assert region.lowered is not None
        layers = region_program(region.lowered.client).body.layers
        if len(layers) == 1 and layers[0].split.reveals:
            lone_layers.append((layers[0], region.lowered.client, region.lowered.server))
    return lone_layers


@pytest.mark.promise("declared")
def test_the_server_sees_the_declared_tiles_rounded_and_no_others(tiled: Compiled) -> None:
    """The request's tail holds every revealed tile as rounded integers; what is in an encrypted tile changes nothing of it."""
    from hecompile.backends.bfv.revealed import unpack_revealed
    from hecompile.backends.registry import backend
    from tests.payloads import sizes

    assert len(revealing_layers(tiled)) == 2
    for layer, client_half, _ in revealing_layers(tiled):
        split, geometry = layer.split, layer.geometry
        assert split.tiles is not None
        client, encrypted = backend("bfv").load_client(client_half), split.tiles.mask(*geometry.size)
        value = np.random.default_rng(0).standard_normal((1, geometry.channels, *geometry.size)).astype(np.float32)
        value[:, 0][:, encrypted] = 9.0  # the largest entry stays, so that the scale does
        other = value.copy()
        other[:, 1:][..., encrypted] = np.random.default_rng(1).uniform(-9, 9, other[:, 1:][..., encrypted].shape)
        tails = [memoryview(encrypt_whole(client, [sample], 1)[0])[-sizes(layer, 1).up_revealed :] for sample in (value, other)]
        assert tails[0] == tails[1]
        step, _ = split.steps(layer.parameters.limit)
        seen = unpack_revealed(tails[0], layer, 1) * step * 9.0 / layer.parameters.limit
        picture = geometry.to_picture(value)
        where = split.tiles.mask(*picture.shape[2:])
        assert not seen[..., where].any()
        errors = np.abs(seen - picture)[..., ~where]
        assert errors.max() <= step * 9.0 / layer.parameters.limit
        assert np.median(errors) > 0.1 * step * 9.0 / layer.parameters.limit  # no better than that either


def test_leaks_are_counted_by_entry(revealing: Compiled, tiled: Compiled) -> None:
    """What the manifest declares is what the tail of a request holds."""
    from tests.payloads import sizes

    for compiled in (revealing, tiled):
        assert compiled.artifact is not None
        declared = json.loads((compiled.artifact / "manifest.json").read_text())["reveals"]
        for layer, _, _ in revealing_layers(compiled):
            entry = next(line for line in declared if line.startswith(f"{layer.input}:"))
            entries = int(entry.split(", ")[1].removesuffix(" entries"))
            assert entries * layer.split.bits == sizes(layer, 1).up_revealed * 8
            assert entries < np.prod([layer.geometry.channels, *layer.geometry.size])


def test_what_is_in_clear_beside_an_answer_tells_no_more_than_the_request(tiled: Compiled) -> None:
    """The clear part of a reply is a function of the clear part of the request: whatever the ciphertexts hold, it is the same."""
    from hecompile.backends.registry import backend
    from tests.payloads import sizes

    layer, client_half, server_half = revealing_layers(tiled)[0]
    client, server = backend("bfv").load_client(client_half), backend("bfv").load_server(server_half)
    value = np.random.default_rng(0).standard_normal((1, layer.geometry.channels, *layer.geometry.size)).astype(np.float32)
    replies = [server.evaluate(encrypt_whole(client, [value], 1)[0], 1) for _ in range(2)]  # other keys, other noise
    cut = len(replies[0]) - sizes(layer, 1).down_sums
    assert replies[0][cut:] == replies[1][cut:]
    assert replies[0][:cut] != replies[1][:cut]


def test_a_client_refuses_tiles_that_the_manifest_hides(tiled: Compiled, tmp_path: Path) -> None:
    assert tiled.artifact is not None
    path = next(file for file in sorted((tiled.artifact / "client").glob("call_*.json")) if '"rows"' in file.read_text())
    program = json.loads(path.read_text())
    layer = next(layer for layer in program["layers"] if layer["split"]["tiles"])
    encrypted = layer["split"]["tiles"]["encrypted"]
    for numbers, reason in (
        (encrypted[:1], "its manifest says|batch"),
        ([], "none encrypted"),
        ([0, 0], "in order"),
        ([9], "more than"),
    ):
        artifact = Path(shutil.copytree(tiled.artifact, tmp_path / f"artifact{len(numbers)}{numbers}"))
        layer["split"]["tiles"]["encrypted"] = numbers
        (artifact / "client" / path.name).write_bytes(to_json(program))
        manifest = json.loads((artifact / "manifest.json").read_text())
        files = manifest["files"] | {f"client/{path.name}": digest((artifact / "client" / path.name).read_bytes())}
        (artifact / "manifest.json").write_bytes(to_json(manifest | {"files": files}))
        with pytest.raises(ProtocolError, match=reason):
            hecompile.load(artifact, policy="min-distortion")


@pytest.mark.promise("runs")
def test_a_run_starts_from_noise_of_128_bits_only(revealing: Compiled) -> None:
    assert revealing.artifact is not None
    unet = hecompile.load(revealing.artifact, policy="min-distortion")
    rest = {"timestep": torch.tensor(900.0), "condition": tiny_inputs()["condition"]}
    with pytest.raises(ValueError, match="edge noise -> sample"):
        unet(sample=torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0)), **rest)
    assert unet.meter.requests == 0  # refused before anything was sent
    noise = unet.initial_noise(2)
    unet(sample=noise * 7.5, **rest)
    unet(sample=torch.zeros(2, 2, 4, 4), **(rest | {"timestep": torch.tensor(800.0)}))  # within the run anything goes
    with pytest.raises(ValueError, match="edge noise -> sample"):
        unet(sample=torch.ones(2, 2, 4, 4), **rest)
    with pytest.raises(CompileError, match="integer seed"):
        unet.initial_noise(2, seed=7)  # type: ignore[arg-type]


@pytest.mark.promise("runs")
@pytest.mark.slow
@pytest.mark.fhe
def test_drawing_with_a_seed_is_refused_and_without_one_works(tmp_path: Path) -> None:
    from hecompile.sampling.labels import draw_labels

    compile_model("digits", tmp_path / "d", options=CompileOptions(choices=OPTIONS.choices, max_batch=1))
    arguments = {"server": None, "labels": [3], "steps": 1, "scheduler": "ddim", "policy": "min-distortion", "progress": False}
    with pytest.raises(CompileError, match="seed 5"):
        draw_labels(tmp_path / "d", seed=5, output=tmp_path / "x.png", **arguments)  # type: ignore[arg-type]
    draw_labels(tmp_path / "d", seed=None, output=tmp_path / "x.png", **arguments)  # type: ignore[arg-type]
    assert (tmp_path / "x.png").is_file()
