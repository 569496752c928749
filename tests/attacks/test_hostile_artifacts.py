"""Artifacts whose compiler is the server: each would make a client tell a secret in the clear, and none of them loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import hecompile
from hecompile.artifact import Input
from hecompile.artifact_files import digest
from hecompile.artifact_writing import to_json
from hecompile.backends.registry import register_backend
from hecompile.errors import ProtocolError
from hecompile.ir.signature import Signature
from hecompile.runtime.arguments import as_array, check_places
from hecompile.runtime.bundle import load_bundle
from hecompile.runtime.client import InputError
from tests.attacks.hostile import change_manifest, change_program, put
from tests.backends.ckks.network import compiled
from tests.networks import tiny_inputs
from tests.sampling import artifact as sampler_artifact
from tests.sampling import load as load_scheduler
from tests.sampling import make


@pytest.fixture(scope="module")
def chained() -> Path:
    """A network with a region under `ckks`, whose tables are read at the timestep's row."""
    folder = compiled("ckks")[0].artifact
    assert folder is not None
    return folder


@pytest.fixture
def chain(chained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(chained, tmp_path / "chain"))


def graph(
    name: str, nodes: list[onnx.NodeProto], inputs: dict[str, list[Any]], outputs: dict[str, list[Any]], **constants: Any
) -> bytes:
    """A client region in the compiler's form."""
    given, results = ([helper.make_tensor_value_info(*item[:1], 1, item[1]) for item in side.items()] for side in (inputs, outputs))
    tensors = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()]
    built = helper.make_graph(nodes, name, given, results, tensors)
    data: bytes = helper.make_model(built, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()
    return data


def insert(artifact: Path, region: str, data: bytes, inputs: dict[str, list[Any]], outputs: dict[str, list[Any]]) -> None:
    """Put a client region in front of the plan."""
    put(artifact, f"client/{region}.onnx", data)

    def change(manifest: dict[str, Any]) -> None:
        plan = manifest["plan"]
        step = {"kind": "client", "region": region, "inputs": [*inputs], "outputs": [*outputs], "per_run": False}
        plan["steps"].insert(0, step)
        plan["values"] += [{"name": name, "shape": shape, "dtype": "float32", "secret": False} for name, shape in outputs.items()]

    change_manifest(artifact, change)


def chain_region(artifact: Path) -> str:
    return next(path.stem for path in sorted((artifact / "client").glob("*_ckks.json")))


def test_they_load_unchanged(artifact: Path, chain: Path) -> None:
    load_bundle(artifact)
    assert load_bundle(chain).clear == (("timestep",),)


@pytest.mark.promise("clear-inputs")
@pytest.mark.fhe
def test_a_timestep_that_is_made_of_the_latent_is_refused(chain: Path) -> None:
    region = chain_region(chain)
    leak = graph(
        "leak", [helper.make_node("ReduceMax", ["sample", "axes"], ["leaked"], keepdims=0)], {"sample": ["B", 1, 4, 4]},
        {"leaked": []}, axes=np.array([0, 1, 2, 3]),
    )  # fmt: skip
    insert(chain, "client_99", leak, {"sample": []}, {"leaked": []})

    def told(program: dict[str, Any]) -> None:
        program["timestep"] = "leaked"
        program["inputs"] = ["leaked" if name == "timestep" else name for name in program["inputs"]]

    inputs = json.loads((chain / f"client/{region}.json").read_text())["inputs"]
    change_program(chain, region, told)

    def planned(manifest: dict[str, Any]) -> None:
        step = next(step for step in manifest["plan"]["steps"] if step["region"] == region)
        step["inputs"] = ["leaked" if name == "timestep" else name for name in inputs]

    change_manifest(chain, planned)
    with pytest.raises(ProtocolError, match=rf"{region}.json.*would reveal 'leaked' to the server, computed from sample"):
        hecompile.load(chain)


@pytest.mark.promise("clear-inputs")
@pytest.mark.fhe
@pytest.mark.parametrize("keyword", ["sample", "class_labels", "guidance"])
def test_what_is_told_is_public_by_the_name_that_the_caller_uses(chain: Path, keyword: str) -> None:
    """The manifest calls the input `timestep` and public; the caller passes it as something else."""
    change_manifest(chain, lambda manifest: manifest["inputs"][1].update(keyword=[keyword, "inner"], public=True))
    with pytest.raises(ProtocolError, match=r"would reveal 'timestep' to the server|passed together"):
        hecompile.load(chain)


@pytest.mark.promise("argument-order")
@pytest.mark.fhe
def test_a_timestep_has_few_numbers(chain: Path) -> None:
    """So that no latent is taken for it by a changed order of arguments."""

    def change(manifest: dict[str, Any]) -> None:
        manifest["inputs"][1]["shape"] = ["B", 1, 4, 4]
        next(value for value in manifest["plan"]["values"] if value["name"] == "timestep")["shape"] = ["B", 1, 4, 4]

    change_manifest(chain, change)
    with pytest.raises(ProtocolError, match=r"would reveal 'timestep' to the server|has shape"):
        hecompile.load(chain)


@pytest.mark.promise("argument-order")
@pytest.mark.fhe
def test_by_position_only_the_second_argument_is_told(chain: Path) -> None:
    """With another order of arguments a label would be taken for the timestep."""
    unet = hecompile.load(chain)
    sample, t = torch.zeros(1, 1, 4, 4), torch.tensor(31.0)
    unet(sample, t)
    change_manifest(chain, lambda manifest: manifest["signature"].update(arguments=["sample", "class_labels", "timestep"]))
    other = hecompile.load(chain)
    with pytest.raises(InputError, match="pass timestep= by its name"):
        other(sample, None, t)
    other(sample, timestep=t)


@pytest.mark.promise("argument-order")
@pytest.mark.parametrize(
    "arguments",
    [["sample", "timestep", "timestep"], ["sample", "timestep", "*timestep"], ["*labels", "timestep"], ["sample", "*a", "*b"]],
    ids=str,
)
def test_arguments_by_position_mean_one_thing(artifact: Path, arguments: list[str]) -> None:
    """A name that stands twice, or one that gathers others in front of it, would tell a label in the timestep's place."""
    change_manifest(artifact, lambda manifest: manifest["signature"].update(arguments=arguments))
    with pytest.raises(ProtocolError, match="signature"):
        hecompile.load(artifact)


@pytest.mark.promise("argument-order")
@pytest.mark.parametrize("arguments", [("*timestep",), ("sample", "*timestep"), ("sample", "labels", "*timestep")], ids=str)
def test_what_gathers_arguments_is_not_told(arguments: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="by its name"):
        check_places(Signature(arguments), [], (0, 1, 2), [("timestep", 0)])


@pytest.mark.promise("graphs")
def test_what_a_tensor_holds_does_not_decide_on_a_request(artifact: Path) -> None:
    """An artifact could take a label for a constant, or for one number of the whole batch, and fail by its value."""
    constant = {"keyword": ["class_labels"], "value": 3, "optional": True}
    change_manifest(artifact, lambda manifest: manifest["signature"].update(constants=[constant]))
    unet = hecompile.load(artifact)
    messages = []
    for label in (3, 4):
        with pytest.raises(InputError, match="class_labels is a tensor") as caught:
            unet(**tiny_inputs(1), class_labels=torch.tensor([label]))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    for labels in ([3, 3], [3, 4]):
        with pytest.raises(InputError, match="the model wants one number"):
            as_array(torch.tensor(labels), Input("labels", ("class_labels",), (), "int64", False), 2)


@pytest.mark.promise("clear-inputs")
@pytest.mark.fhe
def test_the_server_is_told_a_row_of_the_tables_and_no_timestep(chain: Path) -> None:
    """Timesteps of one row give the same bytes, whatever their digits."""
    from hecompile.artifact import read_manifest
    from hecompile.artifact_files import read_client_half
    from hecompile.backends.ckks.document import read_document
    from hecompile.backends.ckks.messages import row_of

    document = read_document(read_client_half(chain, read_manifest(chain).files, f"client/{chain_region(chain)}"))
    rows = {row_of(document, {"timestep": np.asarray(t)}) for t in (500.0, 500.5403638, 501, np.float32(502))}
    assert len(rows) == 1
    for odd in (-1e300, 1e300, np.nan, np.inf, 1e9):
        assert row_of(document, {"timestep": np.asarray(odd)}) in range(document.body.bins)


@pytest.fixture
def sampler(tmp_path: Path) -> Path:
    sampler_artifact(tmp_path / "sampler")
    return tmp_path / "sampler"


@pytest.mark.promise("sampler-step")
def test_a_sampler_step_is_no_region_of_a_model(artifact: Path, sampler: Path) -> None:
    """Its third input is sent in the clear, so a model's plan could send anything there."""
    region = "call_02"
    for kind in ("json", "safetensors"):
        put(artifact, f"client/{region}.{kind}", (sampler / f"client/sampler.{kind}").read_bytes())
    with pytest.raises(ProtocolError, match=rf"{region}.json.*sampler's step"):
        hecompile.load(artifact)


@pytest.mark.promise("sampler-step")
def test_a_sampler_is_no_model_and_a_model_no_sampler(artifact: Path, sampler: Path) -> None:
    with pytest.raises(ProtocolError, match="sampler's step"):
        hecompile.load(sampler, policy="he-diffusion")
    change_manifest(artifact, lambda manifest: manifest.update(policy="he-diffusion"))
    with pytest.raises(ProtocolError, match="not a sampler's artifact"):
        load_scheduler(make("plms"), artifact)


@pytest.mark.promise("clear-inputs", "sampler-step")
def test_a_sampler_sends_its_own_coefficients_only(sampler: Path) -> None:
    load_scheduler(make("plms"), sampler)
    shape = json.loads((sampler / "manifest.json").read_text())["inputs"][0]["shape"]
    leak = graph(
        "leak", [helper.make_node("ReduceMax", ["sample", "axes"], ["leaked"], keepdims=0)], {"sample": shape},
        {"leaked": shape[1:3]},
        axes=np.array([0, 3]),
    )  # fmt: skip
    insert(sampler, "client_99", leak, {"sample": []}, {"leaked": shape[1:3]})
    change_program(sampler, "sampler", lambda program: program["inputs"].__setitem__(2, "leaked"))
    change_manifest(sampler, lambda manifest: manifest["plan"]["steps"][1]["inputs"].__setitem__(2, "leaked"))
    with pytest.raises(ProtocolError, match="would reveal 'leaked' to the server, computed from sample"):
        load_scheduler(make("plms"), sampler)


@pytest.mark.promise("graphs")
def test_files_of_the_client_are_not_read(artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights outside the file are looked for in the folder where the program runs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(b"-----BEGIN OPENSSH PRIVATE KEY-----")
    region = onnx.load_model_from_string((artifact / "client/client_00.onnx").read_bytes())
    last = region.graph.node[-1]
    weight = region.graph.initializer.add(name="w", data_type=TensorProto.UINT8, dims=[24], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "secret"), ("length", "24")):
        entry = weight.external_data.add()
        entry.key, entry.value = key, value
    region.graph.initializer.append(numpy_helper.from_array(np.array([0]), "first"))
    read, last.output[0] = last.output[0], "before"
    region.graph.node.extend(
        [
            helper.make_node("Cast", ["w"], ["bytes"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["bytes", "first"], ["sum"], keepdims=1),
            helper.make_node("Add", ["before", "sum"], [read]),
        ]
    )
    put(artifact, "client/client_00.onnx", region.SerializeToString())
    with pytest.raises(ProtocolError, match=r"client_00.*does not write"):
        hecompile.load(artifact)


def _loop(value: str) -> onnx.NodeProto:
    inner = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["on"]), helper.make_node("Abs", ["v"], ["w"])], "inner",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("w", TensorProto.FLOAT, None)],
    )  # fmt: skip
    return helper.make_node("Loop", ["trips", "", value], ["looped"], body=inner)


@pytest.mark.promise("graphs")
@pytest.mark.parametrize("kind", ["loop", "gather"])
def test_regions_that_take_time_or_stop_by_a_secret_are_refused(artifact: Path, kind: str) -> None:
    region = onnx.load_model_from_string((artifact / "client/client_02.onnx").read_bytes())
    first = region.graph.node[0]
    if kind == "loop":
        region.graph.initializer.append(numpy_helper.from_array(np.array(3, np.int64), "trips"))
        extra = [_loop(first.input[0])]
    else:
        region.graph.initializer.append(numpy_helper.from_array(np.arange(3, dtype=np.float32), "few"))
        cast = helper.make_node("Cast", [first.input[0]], ["places"], to=TensorProto.INT64)
        extra = [cast, helper.make_node("Gather", ["few", "places"], ["taken"], axis=0)]
    region.graph.node.extend(extra)
    put(artifact, "client/client_02.onnx", region.SerializeToString())
    with pytest.raises(ProtocolError, match=r"client_02"):
        hecompile.load(artifact)


@pytest.mark.promise("graphs")
def test_a_region_is_judged_at_every_batch_before_anything_is_sent(artifact: Path) -> None:
    """What is harmless at the largest batch may be empty at one, and ONNX Runtime ends the process for a norm of nothing."""
    nodes = [
        helper.make_node("Slice", ["sample", "one", "far", "zero", "one"], ["rest"]),
        helper.make_node("Reshape", ["rest", "shape"], ["channels"]),
        helper.make_node("InstanceNormalization", ["channels", "ones", "ones"], ["normed"]),
        helper.make_node("ReduceSum", ["normed", "axes"], ["noted"], keepdims=0),
    ]
    data = graph(
        "odd", nodes, {"sample": ["B", 2, 4, 4]}, {"noted": []}, one=np.array([1]), far=np.array([1000]), zero=np.array([0]),
        shape=np.array([1, 2, -1, 4]), ones=np.ones(2, np.float32), axes=np.array([0, 1, 2, 3]),
    )  # fmt: skip
    insert(artifact, "client_99", data, {"sample": []}, {"noted": []})
    unet = hecompile.load(artifact)
    unet(**tiny_inputs(3))
    requests = unet.meter.requests
    with pytest.raises(ProtocolError, match=r"client_99.*nothing"):
        unet(**tiny_inputs(1))
    assert unet.meter.requests == requests


@pytest.mark.promise("graphs")
def test_what_regions_make_of_constants_and_their_slow_operators_are_bounded_together(artifact: Path) -> None:
    for place in range(2):
        nodes = [
            helper.make_node("Expand", ["one", "wide"], ["many"]),
            helper.make_node("ReduceSum", ["many", "axes"], [f"noted{place}"], keepdims=0),
        ]
        data = graph("odd", nodes, {"sample": ["B", 2, 4, 4]}, {f"noted{place}": []}, one=np.float32(1),
                     wide=np.array([1 << 13, (1 << 12) + 8]), axes=np.array([0, 1]))  # fmt: skip
        insert(artifact, f"client_9{place}", data, {"sample": []}, {f"noted{place}": []})
        if not place:
            load_bundle(artifact)
    with pytest.raises(ProtocolError, match="computed from constants"):
        load_bundle(artifact)


def test_regions_fit_the_plan(artifact: Path) -> None:
    """Otherwise a run would stop in its middle."""
    change_manifest(artifact, lambda manifest: manifest["plan"]["values"][-1].update(shape=["B", 3, 4, 4]))
    change_manifest(artifact, lambda manifest: manifest["plan"]["values"][-2].update(shape=["B", 3, 4, 4]))
    with pytest.raises(ProtocolError, match="the plan says"):
        hecompile.load(artifact)


@pytest.mark.promise("own-backends")
def test_a_backend_from_elsewhere_loads_only_where_the_caller_names_it(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hecompile.backends import registry
    from hecompile.backends.bfv.backend import BfvBackend

    class Elsewhere(BfvBackend):
        name = "elsewhere"

    monkeypatch.setattr(registry, "_REGISTERED", {})
    register_backend("elsewhere", Elsewhere)
    change_program(artifact, "call_02", lambda program: program.update(backend="elsewhere"))
    with pytest.raises(ProtocolError, match=r"call_02.json.*'elsewhere' comes from another package"):
        load_bundle(artifact)
    load_bundle(artifact, backends=["elsewhere"])


@pytest.mark.promise("labels")
def test_a_label_beyond_the_table_is_clipped_and_told_at_the_end(digits_clear: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A run must not stop by what a label is: a table that is too short would tell it."""
    unet = hecompile.load(digits_clear, policy="simulation")
    sample = torch.zeros(1, 1, 8, 8)
    expected = unet(sample, 500, class_labels=torch.tensor([9])).sample
    with pytest.raises(InputError, match="'class_labels' was outside 0 to 9"), unet.run():
        result = unet(sample, 500, class_labels=torch.tensor([12])).sample
    assert torch.equal(result, expected)
    assert "'class_labels' was outside 0 to 9 and was clipped" in caplog.text


def test_digests_name_files_as_they_are(artifact: Path) -> None:
    """The helpers of these tests put checksums right: an unchanged file keeps its own."""
    data = (artifact / "client/call_01.json").read_bytes()
    assert to_json(json.loads(data)) == data
    assert json.loads((artifact / "manifest.json").read_text())["files"]["client/call_01.json"] == digest(data)
