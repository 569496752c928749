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
from hecompile.artifact import digest, to_json
from hecompile.compiler import Compiled, compile_model
from hecompile.errors import CompileError, ProtocolError
from hecompile.ir import own_ops as own_ops  # makes the operator known
from hecompile.ir.graph import ModelGraph, copy_module, info, set_info
from hecompile.ir.layers import constant_of
from hecompile.ir.ops import RELEASE
from hecompile.options import CompileOptions
from hecompile.passes.check_secrecy import CheckSecrecy
from hecompile.policies import policy
from hecompile.policies.min_distortion import MinDistortion
from tests.networks import Tiny, tiny_inputs
from tests.stages import partitioned

OPTIONS = CompileOptions(policy="min-distortion", budget=0.5, importance="magnitude", max_batch=2)


@pytest.fixture(scope="module")
def graph() -> ModelGraph:
    return partitioned(OPTIONS)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    folder = tmp_path_factory.mktemp("artifacts") / "shown"
    return compile_model(Tiny().eval(), folder, options=OPTIONS, example_inputs=tiny_inputs())


def released(graph: ModelGraph, value: str, encrypted: list[bool], shares: list[float], bits: int = 8) -> ModelGraph:
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
        release = module.graph.call_function(torch.ops.hecompile.release.default, (node, *constants, bits))
    set_info(release, replace(info(node), domain="server_clear", region=None))
    return replace(graph, graph_module=module)


def first_release(graph: ModelGraph) -> Any:
    return next(node for node in graph.nodes if str(node.target) == RELEASE)


def refuse(graph: ModelGraph, reason: str, budget: float = 0.5, declared: tuple[str, ...] = ()) -> None:
    with pytest.raises(CompileError, match=reason):
        CheckSecrecy(MinDistortion(budget, declared)).run(graph)


def test_what_the_pass_shows_is_accepted(graph: ModelGraph) -> None:
    CheckSecrecy(MinDistortion(0.5)).run(graph)


def test_strict_refuses_every_reveal(graph: ModelGraph) -> None:
    with pytest.raises(CompileError, match="would reach the server in clear"):
        CheckSecrecy(policy("strict")).run(graph)


def test_the_noise_prediction_undeclared_is_refused(graph: ModelGraph) -> None:
    output = graph.outputs[0]
    leaking = released(graph, output, [True, False], [0.9, 0.1])
    refuse(leaking, f"%{output}, the noise prediction would be revealed undeclared")
    CheckSecrecy(MinDistortion(0.5, (output,))).run(leaking)


def test_the_latent_undeclared_is_refused(graph: ModelGraph) -> None:
    leaking = released(graph, "sample", [True, False], [0.9, 0.1])
    refuse(leaking, "%sample, an input, from which the noise prediction follows, would be revealed undeclared")


def test_the_prompt_undeclared_is_refused(graph: ModelGraph) -> None:
    label = next(node.name for node in graph.nodes if info(node).path == "label" and node.op == "call_function")
    refuse(released(graph, label, [False] + [True] * 5, [0.1] + [0.18] * 5), f"%{label} derives from the prompt or label alone")


def test_any_other_operation_at_the_server_in_clear_is_refused(graph: ModelGraph) -> None:
    output = graph.outputs[0]
    leaking = graph.with_infos(lambda node, record: replace(record, domain="server_clear") if node.name == output else record)
    refuse(leaking, f"%{output} would reach the server in clear, undeclared")


def test_a_reveal_of_everything_is_refused(graph: ModelGraph) -> None:
    value = first_release(graph).args[0]
    channels = int(str(info(value).shape[1]))
    refuse(released(graph, value.name, [False] * channels, [1 / channels] * channels), f"all of %{value.name} would be revealed")


def test_a_reveal_at_full_precision_is_refused(graph: ModelGraph) -> None:
    value = first_release(graph).args[0]
    channels = int(str(info(value).shape[1]))
    masks = [False] + [True] * (channels - 1)
    refuse(released(graph, value.name, masks, [0.0] + [0.5] * (channels - 1), bits=32), f"%{value.name} .* full precision: 32 bits")


def test_reveals_of_one_value_count_together(graph: ModelGraph) -> None:
    """Two masks within the budget, for different steps say, whose union is not."""
    release = first_release(graph)
    encrypted, shares = (constant_of(graph, argument) for argument in release.args[1:3])
    other = (~encrypted).tolist()  # just the channels that are encrypted now, but one
    other[encrypted.tolist().index(True)] = True
    value = release.args[0].name
    refuse(released(graph, value, other, shares.tolist()), f"%{value}: the channels shown over all steps have")


def test_a_lower_budget_than_was_used_is_refused_and_names_the_value(graph: ModelGraph) -> None:
    value = first_release(graph).args[0].name
    refuse(graph, f"%{value}: the channels shown over all steps have .* the budget is 0.01", budget=0.01)


def test_strict_artifacts_contain_no_reveal(tiny: Compiled) -> None:
    assert tiny.artifact is not None
    manifest = json.loads((tiny.artifact / "manifest.json").read_text())
    assert manifest["policy"] == "strict"
    assert manifest["reveals"] == []
    programs = sorted(tiny.artifact.rglob("*/call_*.json"))
    assert programs
    for path in programs:
        assert all(not layer["split"]["released"] for layer in json.loads(path.read_text())["layers"])
    for path in sorted((tiny.artifact / "server").glob("*.safetensors")):
        assert b".released" not in path.read_bytes()


def test_reveals_are_in_the_manifest_the_report_and_the_log(shown: Compiled, caplog: pytest.LogCaptureFixture) -> None:
    assert shown.artifact is not None
    manifest = json.loads((shown.artifact / "manifest.json").read_text())
    assert len(manifest["reveals"]) == 3
    report = (shown.artifact / "report.html").read_text()
    assert report.count("No cryptographic guarantee") == 3
    hecompile.load(shown.artifact, policy="min-distortion")
    assert "no cryptographic guarantee" in caplog.text


def test_a_strict_client_refuses_the_artifact(shown: Compiled) -> None:
    assert shown.artifact is not None
    with pytest.raises(ProtocolError, match="compiled under policy 'min-distortion'"):
        hecompile.load(shown.artifact)


def test_a_client_refuses_reveals_that_the_manifest_hides(shown: Compiled, tmp_path: Path) -> None:
    """As a malicious compiler would: checksums right, the manifest silent or the region's program showing more."""
    assert shown.artifact is not None
    artifact = Path(shutil.copytree(shown.artifact, tmp_path / "artifact"))
    manifest = json.loads((artifact / "manifest.json").read_text())
    (artifact / "manifest.json").write_bytes(to_json(manifest | {"reveals": manifest["reveals"][:-1]}))
    with pytest.raises(ProtocolError, match="its manifest says"):
        hecompile.load(artifact, policy="min-distortion")
    (artifact / "manifest.json").write_bytes(to_json(manifest | {"policy": "strict", "reveals": []}))
    with pytest.raises(ProtocolError, match="not under policy 'strict'"):
        hecompile.load(artifact)
    region = next(path for path in sorted((artifact / "client").glob("call_*.json")) if '"released": [\n' in path.read_text())
    program = json.loads(region.read_text())
    layer = next(layer for layer in program["layers"] if layer["split"]["released"])
    layer["split"]["bits"] = 11
    region.write_bytes(to_json(program))
    files = manifest["files"] | {f"client/{region.name}": digest(region.read_bytes())}
    (artifact / "manifest.json").write_bytes(to_json(manifest | {"files": files}))
    with pytest.raises(ProtocolError, match="at 11 bits"):
        hecompile.load(artifact, policy="min-distortion")


def test_the_server_sees_the_declared_entries_rounded_and_no_others(shown: Compiled) -> None:
    """The request's tail is what is shown; two inputs that differ in an encrypted channel only have the same tail."""
    from hecompile.backends.bfv.messages import sizes
    from hecompile.backends.integer import region_program
    from hecompile.backends.registry import backend

    for region in shown.program.calls.values():
        assert region.lowered is not None
        layers = region_program(region.lowered.client).layers
        if len(layers) != 1 or not layers[0].split.released:
            continue
        split, size = layers[0].split, sizes(layers[0], 1)
        client = backend("bfv").load_client(region.lowered.client)
        shape = [1 if dim == "B" else int(dim) for dim in shown.program.plan.value(region.inputs[0]).shape]
        value = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        value[0, split.encrypted[0]] = 9.0  # the largest entry stays, so that the scale does
        value[0, split.encrypted[0]].flat[0] = 10.0
        tails = []
        for change in (0.0, 0.5):
            value[0, split.encrypted[0]].flat[1] -= change
            payload, _ = client.encrypt([value], 1)
            tails.append(payload[-size.up_released :])
        assert tails[0] == tails[1]
        assert len(tails[0]) * 8 <= np.prod(shape) * len(split.released) / split.channels * split.bits + 7
        return
    raise AssertionError("no region shows anything")


def test_a_run_starts_from_noise_of_128_bits_only(shown: Compiled) -> None:
    assert shown.artifact is not None
    unet = hecompile.load(shown.artifact, policy="min-distortion")
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


@pytest.mark.slow
@pytest.mark.fhe
def test_drawing_with_a_seed_is_refused_and_without_one_works(tmp_path: Path) -> None:
    from hecompile.runtime.sampling import draw

    compile_model("digits", tmp_path / "d", options=replace(OPTIONS, max_batch=1))
    arguments = {"server": None, "labels": [3], "steps": 1, "scheduler": "ddim", "policy": "min-distortion", "progress": False}
    with pytest.raises(CompileError, match="seed 5"):
        draw(tmp_path / "d", seed=5, output=tmp_path / "x.png", **arguments)  # type: ignore[arg-type]
    draw(tmp_path / "d", seed=None, output=tmp_path / "x.png", **arguments)  # type: ignore[arg-type]
    assert (tmp_path / "x.png").is_file()
