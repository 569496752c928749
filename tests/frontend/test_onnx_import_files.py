"""What is made of a file's inputs and names, and what is said of files that are broken, unsafe or not supported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from hecompile.errors import CompileError
from hecompile.frontend.onnx import import_onnx
from hecompile.frontend.sources import load_source
from hecompile.ir.graph import Batch
from hecompile.ir.linear import Array
from hecompile.passes.canonicalize import Canonicalize
from hecompile.passes.trace import Trace

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)


def model(
    nodes: list[onnx.NodeProto], weights: dict[str, Array] | None = None, opset: int = 17,
    shape: Sequence[str | int | None] = ("B", 2), inputs: list[onnx.ValueInfoProto] | None = None, domain: str = "",
) -> onnx.ModelProto:  # fmt: skip
    """A model from `x` to `y`."""
    given = inputs or [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows"])  # rank and sizes are not read
    kept = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "g", given, [result], kept)
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def linear(**changes: object) -> onnx.ModelProto:
    weights = {"w": WEIGHT, **{name: value for name, value in changes.items() if isinstance(value, np.ndarray)}}
    shape = changes.get("shape", ("B", 2))
    return model([helper.make_node("MatMul", ["x", "w"], ["y"], name="/block/fc/MatMul")], weights, shape=shape)  # type: ignore[arg-type]


def run(proto: onnx.ModelProto, *values: torch.Tensor) -> torch.Tensor:
    """What the canonical graph of a file gives."""
    return Canonicalize().run(import_onnx(proto.SerializeToString(), frozenset()))(*values)[0]


def refusal(proto: onnx.ModelProto | bytes | Path) -> CompileError:
    """The error that a file is refused with."""
    with pytest.raises(CompileError) as caught:
        import_onnx(proto.SerializeToString() if isinstance(proto, onnx.ModelProto) else proto, frozenset())
    return caught.value


def test_inputs_keep_names_order_and_types_and_the_timestep_is_a_scalar() -> None:
    inputs = [
        helper.make_tensor_value_info("time_ids", TensorProto.FLOAT, ("n", 2)),
        helper.make_tensor_value_info("timestep", TensorProto.INT64, (1,)),
        helper.make_tensor_value_info("labels.1", TensorProto.INT64, ("B",)),
    ]
    nodes = [
        helper.make_node("Cast", ["timestep"], ["t"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["w", "labels.1"], ["row"]),
        helper.make_node("Mul", ["row", "t"], ["scaled"]),
        helper.make_node("Add", ["scaled", "time_ids"], ["y"]),
    ]
    graph = import_onnx(
        model(nodes, {"w": WEIGHT.T.copy()}, inputs=inputs).SerializeToString(), frozenset({"timestep", "time_ids"})
    )
    inputs_of_graph = [(spec.name, spec.keyword, spec.shape, spec.dtype, spec.public) for spec in graph.inputs]
    assert inputs_of_graph == [
        ("time_ids", ("time_ids",), (Batch(), 2), "float32", True),
        ("timestep", ("timestep",), (), "float32", True),
        ("labels_1", ("labels.1",), (Batch(),), "int64", False),
    ]
    result = graph(torch.zeros(3, 2), torch.tensor(2.0), torch.tensor([0, 1, 2]))[0]
    assert torch.equal(result, 2 * torch.from_numpy(WEIGHT.T))


@pytest.mark.parametrize(("kind", "shape"), [(TensorProto.FLOAT, ()), (TensorProto.INT64, ("B",)), (TensorProto.DOUBLE, (1, 1))])
def test_every_form_of_timestep_takes_a_scalar(kind: int, shape: Sequence[str | int | None]) -> None:
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ("B", 2)),
        helper.make_tensor_value_info("timestep", kind, shape),
    ]
    nodes = [
        helper.make_node("Cast", ["timestep"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["f", "column"], ["t"]),
        helper.make_node("Mul", ["x", "t"], ["y"]),
    ]
    graph = import_onnx(model(nodes, {"column": np.array([-1, 1])}, inputs=inputs).SerializeToString(), frozenset())
    assert (graph.inputs[1].shape, graph.inputs[1].dtype) == ((), "float32")
    assert torch.equal(graph(torch.ones(3, 2), torch.tensor(5.0))[0], torch.full((3, 2), 5.0))


def test_nodes_say_where_they_came_from(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(linear(), path)
    graph = Trace().run(load_source(path))
    last = graph.nodes[-1].meta["hecompile"]
    assert (graph.name, last.path, last.source) == ("net", "block.fc", "net.onnx:/block/fc/MatMul")


def test_statistics_of_groups_become_a_group_norm() -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "grouped"], ["a"]),
        helper.make_node("InstanceNormalization", ["a", "one", "zero"], ["b"], epsilon=1e-5),
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Reshape", ["b", "s"], ["c"]),
        helper.make_node("Mul", ["c", "scale"], ["d"]),
        helper.make_node("Add", ["d", "shift"], ["y"]),
    ]
    scale, shift = (np.random.default_rng(seed).normal(size=(4, 1, 1)).astype(np.float32) for seed in (0, 1))
    weights = {
        "grouped": np.array([0, 2, -1]), "one": np.ones(2, np.float32), "zero": np.zeros(2, np.float32), "scale": scale,
        "shift": shift,
    }  # fmt: skip
    graph = Canonicalize().run(import_onnx(model(nodes, weights, shape=("B", 4, 3, 3)).SerializeToString(), frozenset()))
    assert [str(node.target) for node in graph.nodes if node.op == "call_function"] == ["aten.group_norm.default"]
    x = torch.randn(3, 4, 3, 3)
    expected = torch.nn.functional.group_norm(x, 2, torch.from_numpy(scale.ravel()), torch.from_numpy(shift.ravel()))
    assert torch.allclose(graph(x)[0], expected, atol=1e-6)


def test_a_gelu_spelled_by_erf_is_one_again() -> None:
    nodes = [
        helper.make_node("Div", ["x", "root"], ["a"]),
        helper.make_node("Erf", ["a"], ["b"]),
        helper.make_node("Add", ["b", "one"], ["c"]),
        helper.make_node("Mul", ["x", "c"], ["d"]),
        helper.make_node("Mul", ["d", "half"], ["y"]),
    ]
    weights = {name: np.array(value, np.float32) for name, value in (("root", 2**0.5), ("one", 1.0), ("half", 0.5))}
    graph = Canonicalize().run(import_onnx(model(nodes, weights).SerializeToString(), frozenset()))
    assert [str(node.target) for node in graph.nodes if node.op == "call_function"] == ["aten.gelu.default"]
    x = torch.randn(3, 2)
    assert torch.allclose(graph(x)[0], torch.nn.functional.gelu(x), atol=1e-6)


def test_sizes_computed_from_the_batch_become_multiples_of_it() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["batch"]),
        helper.make_node("Mul", ["batch", "three"], ["rows"]),
        helper.make_node("Unsqueeze", ["rows", "axis"], ["rows1"]),
        helper.make_node("Concat", ["rows1", "minus"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    weights = {"zero": np.array(0), "three": np.array(3), "axis": np.array([0]), "minus": np.array([-1])}
    proto = model(nodes, weights, shape=("B", 6))
    assert import_onnx(proto.SerializeToString(), frozenset()).nodes[-1].meta["hecompile"].shape == (Batch(3), 2)
    assert run(proto, torch.zeros(5, 6)).shape == (15, 2)


def test_a_fixed_batch_is_refused_with_the_export_that_helps() -> None:
    error = refusal(linear(shape=(1, 2)))
    assert "input x has the fixed batch size 1" in str(error)
    assert "dynamic_axes={'x': {0: 'batch'}}" in str(error)
    assert "dynamic_shapes={'x'" in str(error)


def test_dynamic_sizes_other_than_the_batch_are_refused() -> None:
    assert "dimension 1 is dynamic" in str(refusal(linear(shape=("B", "width"))))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_all_named(wrong: float) -> None:
    bad = WEIGHT.copy()
    bad[1, 1] = wrong
    error = refusal(linear(w=bad, other=bad))
    assert [finding.message for finding in error.diagnostics] == ["weights of w are not finite", "weights of other are not finite"]


def test_every_operator_that_is_not_supported_is_reported_with_its_node() -> None:
    nodes = [
        helper.make_node("Det", ["x"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="second"),
        helper.make_node("NonZero", ["b"], ["c"], name="third"),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
    ]
    error = refusal(model(nodes))
    assert [(finding.message, finding.source) for finding in error.diagnostics] == [
        ("Det is not supported", "model.onnx:first"), ("NonZero is not supported", "model.onnx:third"),
    ]  # fmt: skip
    assert all(finding.help and finding.line for finding in error.diagnostics)


def test_every_node_that_cannot_be_read_is_reported() -> None:
    nodes = [
        helper.make_node("Softmax", ["x"], ["a"], axis=0, name="over the batch"),
        helper.make_node("Relu", ["a"], ["b"], name="after"),
        helper.make_node("ReduceMean", ["x"], ["c"], axes=[0, 1], name="mean"),
        helper.make_node("Add", ["b", "c"], ["y"], name="sum"),
    ]
    error = refusal(model(nodes))
    assert [finding.source for finding in error.diagnostics] == ["model.onnx:over the batch", "model.onnx:mean"]


def test_operators_of_other_domains_are_refused() -> None:
    node = helper.make_node("FusedGelu", ["x"], ["y"], name="n", domain="com.example")
    assert "operator com.example.FusedGelu is not of the ONNX standard" in str(refusal(model([node], domain="com.example")))


@pytest.mark.parametrize("opset", [9, 11])
def test_old_opsets_are_refused(opset: int) -> None:
    assert f"opset {opset} is not supported" in str(refusal(model([helper.make_node("Relu", ["x"], ["y"])], opset=opset)))


@pytest.mark.parametrize("kind", [np.complex64, np.uint64])
def test_types_that_are_not_computed_with_are_refused(kind: type) -> None:
    assert "tensor 'odd' is of type" in str(refusal(linear(odd=WEIGHT.astype(kind))))


@pytest.mark.parametrize("keep", [0, 1, 10, 0.3, 0.7, 0.95])
def test_truncated_files_are_refused(keep: float, tmp_path: Path) -> None:
    data = linear().SerializeToString()
    cut = data[: int(keep * len(data)) if isinstance(keep, float) else keep]
    (tmp_path / "cut.onnx").write_bytes(cut)
    refusal(cut)
    refusal(tmp_path / "cut.onnx")


def test_no_flipped_byte_ends_in_another_error() -> None:
    data = bytearray(linear().SerializeToString())
    for place in range(len(data)):
        broken = bytes(data[:place]) + bytes([data[place] ^ 0x15]) + bytes(data[place + 1 :])
        try:
            import_onnx(broken, frozenset())
        except CompileError:
            continue


def external(where: str) -> onnx.ModelProto:
    proto = linear()
    weight = proto.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, value in (("location", where), ("offset", "0"), ("length", str(WEIGHT.nbytes))):
        weight.external_data.add(key=key, value=value)
    return proto


@pytest.mark.parametrize("where", ["../secret.bin", "/etc/hostname", "sub/w.bin", "link.bin", "absent.bin", ".", ".."])
def test_data_outside_the_folder_is_not_read(where: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    for place in (tmp_path / "secret.bin", folder / "sub" / "w.bin"):
        place.write_bytes(WEIGHT.tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "net.onnx").write_bytes(external(where).SerializeToString())
    assert "not in a file beside the model" in str(refusal(folder / "net.onnx"))


def test_data_beside_the_model_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(external("w.bin").SerializeToString())
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes())
    x = torch.randn(3, 2)
    result = import_onnx(tmp_path / "net.onnx", frozenset())(x)[0]
    assert torch.allclose(result, x @ torch.from_numpy(WEIGHT))
    (tmp_path / "w.bin").write_bytes(WEIGHT.tobytes()[:-4])
    refusal(tmp_path / "net.onnx")
    refusal(external("w.bin"))


@pytest.mark.parametrize("kind", ["ConstantOfShape", "Range", "Expand", "Tile", "Add"])
def test_a_small_file_cannot_fill_the_memory(kind: str) -> None:
    nodes = {
        "ConstantOfShape": [helper.make_node("ConstantOfShape", ["huge"], ["c"])],
        "Range": [helper.make_node("Range", ["zero", "limit", "one"], ["c"])],
        "Expand": [helper.make_node("Expand", ["w", "huge"], ["c"])],
        "Tile": [helper.make_node("Tile", ["w", "huge"], ["c"])],
        "Add": [helper.make_node("Add", ["column", "row"], ["c"])],
    }[kind]
    weights = {
        "huge": np.array([1 << 20, 1 << 20]), "zero": np.array(0), "limit": np.array(1 << 40), "one": np.array(1),
        "w": np.ones((1, 1), np.float32), "column": np.ones((1 << 15, 1), np.float32), "row": np.ones((1, 1 << 15), np.float32),
    }  # fmt: skip
    tail = [helper.make_node("Cast", ["c"], ["f"], to=TensorProto.FLOAT), helper.make_node("Add", ["x", "f"], ["y"])]
    assert "elements" in str(refusal(model([*nodes, *tail], weights)))
