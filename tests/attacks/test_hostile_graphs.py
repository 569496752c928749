"""Client regions that somebody else wrote: whatever could read files, tell by time, or fail by what a secret is, never runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hecompile.errors import ProtocolError
from hecompile.runtime.check_onnx import check_onnx
from tests.fuzz.budget import bounded_memory

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def constant(name: str, value: Any, dtype: Any = np.int64) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def model(nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto] | None = None, **changes: Any) -> onnx.ModelProto:
    """A region from `x` (B, 4) float32 and `n` (B) int64 to `y`, as the compiler frames it."""
    inputs = [helper.make_tensor_value_info("x", FLOAT, ["B", 4]), helper.make_tensor_value_info("n", INT64, ["B"])]
    output = helper.make_tensor_value_info("y", changes.pop("type", FLOAT), changes.pop("shape", ["B", 4]))
    graph = helper.make_graph(nodes, "region", inputs, [output], constants or [])
    opsets = [helper.make_opsetid(*opset) for opset in changes.pop("opsets", [("", 18)])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=changes.pop("ir_version", 9), **changes)


def node(kind: str, inputs: str, output: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def judged(region: onnx.ModelProto, batch: int = 3) -> Any:
    return check_onnx(region.SerializeToString(), "client_00", batch)


def test_what_an_output_depends_on_is_known() -> None:
    nodes = [node("Mul", "x two", "z"), node("Shape", "x", "s"), node("Expand", "one s", "y")]
    checked = judged(model(nodes, [constant("two", 2, np.float32), constant("one", 1, np.float32)]))
    assert checked.sources == {"y": frozenset()}  # a shape is public
    assert judged(model([node("Relu", "x")])).sources == {"y": frozenset(["x"])}
    assert judged(model([node("Relu", "x")])).inputs == {"x": (3, 4), "n": (3,)}


def test_places_that_are_clipped_to_their_table_are_taken_and_known() -> None:
    table = [constant("table", np.zeros((10, 4)), np.float32), constant("low", 0), constant("high", 9)]
    assert judged(model([node("Clip", "n low high", "c"), node("Gather", "table c", axis=0)], table)).places == {"n": 10}


@pytest.mark.promise("graphs")
@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        pytest.param([node("Gather", "table n", axis=0)], "not clipped", id="places as they come"),
        pytest.param([node("Clip", "n low far", "c"), node("Gather", "table c", axis=0)], "of 10", id="clipped too far"),
        pytest.param([node("Clip", "n below high", "c"), node("Gather", "table c", axis=0)], "-1", id="clipped below zero"),
        pytest.param([node("Clip", "n", "c"), node("Gather", "table c", axis=0)], "not clipped", id="clipped by nothing"),
        pytest.param(
            [
                node("ReduceMax", "x axes", "m", keepdims=0),
                node("Clip", "m flow fhigh", "c"),
                node("Cast", "c", "i", to=INT64),
                node("Gather", "table i", axis=0),
            ], "not clipped", id="clipped before a NaN becomes a place",
        ),
        pytest.param([node("Gather", "table places", "g", axis=0), node("Expand", "g s0", "y")], "of 10", id="a constant place"),
        pytest.param([node("Gather", "x low", "g", axis=5), node("Expand", "g s0", "y")], "axis|fit", id="no such axis"),
        pytest.param([node("Div", "n n", "d"), node("Cast", "d", "f", to=FLOAT), node("Add", "x s1")], "zero", id="division"),
        pytest.param([node("Mod", "n n", "d"), node("Add", "x s1")], "zero", id="remainder"),
        pytest.param([node("Mod", "n low", "d"), node("Add", "x s1")], "zero", id="remainder by zero"),
        pytest.param([node("Div", "n below", "d"), node("Add", "x s1")], "-1", id="the least number by -1 ends the process"),
        pytest.param(
            [node("Clip", "n low two", "c"), node("Gather", "x c", axis=0)],
            "not a constant",
            id="a table that grows with the batch",
        ),
        pytest.param([node("Cast", "n", "s", to=INT64), node("Expand", "one s")], "must be a constant", id="a computed shape"),
        pytest.param([node("Reshape", "x n")], "must be a constant", id="a computed reshape"),
        pytest.param([node("Slice", "x n n low low")], "must be a constant", id="a computed slice"),
        pytest.param([node("Pad", "x n", mode="constant")], "must be a constant", id="a computed border"),
        pytest.param([node("NonZero", "x", "y")], "'NonZero'", id="a shape by data"),
        pytest.param([node("TopK", "x low", "y")], "'TopK'", id="places by data"),
        pytest.param([node("GatherElements", "x n")], "'GatherElements'", id="another gather"),
        pytest.param([node("Unique", "x")], "'Unique'", id="another shape by data"),
        pytest.param([node("RandomNormalLike", "x")], "'RandomNormalLike'", id="chance"),
        pytest.param([node("Range", "low high low", "y")], "'Range'", id="a range"),
        pytest.param([node("LSTM", "x x x", "y")], "'LSTM'", id="a recurrence"),
        pytest.param([node("FusedMatMul", "x x", domain="com.microsoft")], "'FusedMatMul'", id="another of ONNX Runtime's own"),
        pytest.param([node("Relu", "x", domain="com.microsoft")], "of the domain 'com.microsoft'", id="a domain"),
        pytest.param([node("Relu", "x", domain="ai.onnx")], "of the domain 'ai.onnx'", id="another name of the standard's"),
        pytest.param([node("Softmax", "x", axis=1, alpha=1.0)], "attributes", id="an unknown attribute"),
        pytest.param([node("Softmax", "x", axis=1.0)], "malformed", id="an attribute of another type"),
        pytest.param([node("Cast", "x", to=TensorProto.STRING)], "Cast to type", id="text"),
        pytest.param([node("Relu", "z")], "before it is computed", id="out of nothing"),
        pytest.param([node("Relu", "x"), node("Abs", "x")], "two values", id="one name for two values"),
        pytest.param([node("Relu", "x", "x")], "two values", id="an input written"),
        pytest.param([node("MatMul", "x x")], "do not fit", id="shapes that do not fit"),
        pytest.param([node("Relu", "x", "z")], "makes the output", id="an output that nothing makes"),
    ],
)  # fmt: skip
def test_what_could_fail_or_tell_is_refused(nodes: list[onnx.NodeProto], reason: str) -> None:
    known = [
        constant("table", np.zeros((10, 4)), np.float32), constant("low", 0), constant("high", 9), constant("far", 10),
        constant("below", -1), constant("flow", 0, np.float32), constant("fhigh", 9, np.float32), constant("axes", [1]),
        constant("back", [-1, 4]), constant("places", [10]), constant("s0", [3, 4]), constant("s1", [0.0], np.float32),
        constant("one", 1, np.float32), constant("two", 2),
    ]  # fmt: skip
    with pytest.raises(ProtocolError, match=reason) as caught:
        judged(model(nodes, known))
    assert "client_00" in str(caught.value)


def body(kind: str = "Relu") -> onnx.GraphProto:
    return helper.make_graph([node(kind, "x", "inner")], "inner", [], [helper.make_tensor_value_info("inner", FLOAT, ["B", 4])])


@pytest.mark.promise("graphs")
@pytest.mark.parametrize(
    "control",
    [
        node("If", "c", then_branch=body(), else_branch=body("Abs")),
        node("Loop", "trips c x", body=body()),
        node("Scan", "x", body=body(), num_scan_inputs=1),
    ],
    ids=lambda operator: operator.op_type,
)
def test_control_flow_never_runs(control: onnx.NodeProto) -> None:
    with pytest.raises(ProtocolError, match="does not write"):
        judged(model([control], [constant("c", True, np.bool_), constant("trips", 3)]))


@pytest.mark.promise("graphs")
def test_data_of_other_files_is_never_read() -> None:
    outside = constant("w", np.zeros((1, 4)), np.float32)
    outside.ClearField("raw_data")
    outside.data_location = TensorProto.EXTERNAL
    entry = outside.external_data.add()
    entry.key, entry.value = "location", "secrets/id_ed25519"
    with pytest.raises(ProtocolError, match="does not write"):
        judged(model([node("Add", "x w")], [outside]))


@pytest.mark.promise("graphs")
def test_functions_training_and_metadata_are_refused() -> None:
    function = helper.make_function(
        "own", "F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 18)]
    )
    called = model([helper.make_node("F", ["x"], ["y"], domain="own")], opsets=[("", 18), ("own", 1)])
    called.functions.append(function)
    trained = model([node("Relu", "x")])
    trained.training_info.add()
    told = model([node("Relu", "x")])
    told.metadata_props.add(key="a", value="b")
    for region in (called, trained, told):
        with pytest.raises(ProtocolError, match="does not write"):
            judged(region)


@pytest.mark.parametrize(
    "changes", [{"opsets": [("", 17)]}, {"opsets": [("", 18), ("ai.onnx.ml", 3)]}, {"ir_version": 10}], ids=str
)
def test_other_operator_sets_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match="only opset 18 is read"):
        judged(model([node("Relu", "x")], **changes))


@pytest.mark.promise("graphs")
@pytest.mark.parametrize(
    ("nodes", "sizes", "reason"),
    [
        ([node("Expand", "one s")], [1 << 18, 1 << 18], "more than a region"),
        ([node("Expand", "one s", "z"), node("MatMul", "z z")], [32000, 32000], "more than a region"),
        ([node("Expand", "one s", "z"), node("Sin", "z")], [2000, 2000], "time would reveal"),
        ([node("Expand", "one s", "z"), node("Cos", "z")], [2000, 2000], "time would reveal"),
        ([node("Expand", "one s", "z"), node("Mod", "z one", fmod=1)], [2000, 2000], "time would reveal"),
        ([node("Expand", "one s", "z"), node("Sin", "z", "w"), node("Sin", "w")], [3, 200_000], "time would reveal"),
        ([node("Expand", "one s")], [1 << 14, 1 << 14], "computed from constants"),
        ([node("Pad", "x wide", mode="constant")], [3, 1 << 31], "more than a region"),
        ([node("Pad", "x wide", mode="reflect")], [3, 13], "mirror"),
        ([node("Expand", "one s")], [-1, 4], "neither a number|fit|follow"),
        ([node("Expand", "nothing s")], [0, 4], "neither a number|of nothing"),
    ],
)
def test_costs_are_bounded(nodes: list[onnx.NodeProto], sizes: list[int], reason: str) -> None:
    known = [constant("s", sizes), constant("wide", [0, 0, 0, sizes[1] - 4]), constant("one", 1, np.float32)]
    with pytest.raises(ProtocolError, match=reason):
        judged(model(nodes, [*known, constant("nothing", np.zeros((0, 4)), np.float32)], shape=sizes))


def test_inferring_shapes_takes_little_memory() -> None:
    """Of an input with a dimension of 2^31, and of a vector made by another's shape."""
    wide = model([node("Slice", "x zero one last one", "z"), node("Reshape", "z flat", "v"), node("Shape", "v", "s")])
    wide.graph.node.append(node("Expand", "number s"))
    known = {"zero": [0], "one": [1], "last": [1], "flat": [-1]}
    wide.graph.initializer.extend([constant(name, value) for name, value in known.items()] + [constant("number", [1], np.float32)])
    wide.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1 << 31
    with bounded_memory(), pytest.raises(ProtocolError):
        judged(wide)


def test_weights_that_are_turned_are_not_made_of_nothing() -> None:
    """Linear layers at the client hold as many weights as a model has."""
    weight = constant("w", np.zeros((4, 300)), np.float32)
    twice = [node("Transpose", "w", "t", perm=[1, 0]), node("Transpose", "t", "u", perm=[1, 0]), node("MatMul", "x u")]
    assert judged(model(twice, [weight], shape=["B", 300])).folded == 4800
    once = [node("Transpose", "w", "t", perm=[1, 0]), node("MatMul", "x t")]
    assert judged(model(once, [constant("w", np.zeros((300, 4)), np.float32)], shape=["B", 300])).folded == 0


def test_a_constant_holds_the_bytes_that_it_says() -> None:
    short = constant("w", np.zeros((1, 4)), np.float32)
    short.raw_data = short.raw_data[:-1]
    huge = constant("w", np.zeros((1, 4)), np.float32)
    huge.dims[:] = [1 << 40, 1 << 40]
    typed = helper.make_tensor("w", FLOAT, [1, 4], [0.0] * 4)
    for wrong in (short, huge, typed):
        with pytest.raises(ProtocolError):
            judged(model([node("Add", "x w")], [wrong]))


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00", b"\xff" * 100, b"\x3a\xff\xff\xff\xff\x0f", b"\x08" + b"\xff" * 20, b"\x3a\x02" * 1000, b"not onnx at all"],
)
def test_bytes_that_are_no_model(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        check_onnx(data, "client_00", 1)


def test_millions_of_empty_fields_are_not_parsed() -> None:
    """Two bytes on disk become an object of a hundred."""
    nodes = b"\x0a\x00" * 3_000_000
    size = len(nodes)
    length = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14 & 0x7F | 0x80, size >> 21])
    with pytest.raises(ProtocolError, match="fields"):
        check_onnx(b"\x3a" + length + nodes, "client_00", 1)


def attending(*shapes: list[int | str], kind: int = FLOAT, opsets: Any = None, **changes: Any) -> onnx.ModelProto:
    """A region of attention from `q`, `k` and `v`, without those whose shapes are not given."""
    names = "qkvbm"[: len(shapes)]
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name, shape in zip(names, shapes, strict=True)]
    output = helper.make_tensor_value_info("y", kind, [*shapes[0][:2], shapes[-1][-1]])
    attributes: dict[str, Any] = {"domain": "com.microsoft", "num_heads": 4, "scale": 0.3} | changes
    fused = helper.make_node("MultiHeadAttention", [*names], ["y"], **{k: v for k, v in attributes.items() if v is not None})
    opsets = [helper.make_opsetid(*opset) for opset in opsets or [("", 18), ("com.microsoft", 1)]]
    return helper.make_model(helper.make_graph([fused], "region", inputs, [output]), opset_imports=opsets, ir_version=9)


FITTING: list[list[int | str]] = [["B", 50, 24], ["B", 70, 24], ["B", 70, 40]]


def test_attention_that_fits_is_taken_and_its_result_inferred() -> None:
    checked = judged(attending(*FITTING))
    assert checked.outputs == {"y": (3, 50, 40)}
    assert checked.sources == {"y": frozenset("qkv")}


@pytest.mark.promise("graphs")
@pytest.mark.parametrize(
    ("shapes", "changes", "reason"),
    [
        pytest.param(FITTING, {"num_heads": 5}, "5 heads", id="heads that do not divide"),
        pytest.param(FITTING, {"num_heads": 24}, "24 heads", id="heads that do not divide the values"),
        pytest.param(FITTING, {"num_heads": 0}, "malformed", id="no head"),
        pytest.param(FITTING, {"num_heads": -4}, "malformed", id="fewer than none"),
        pytest.param(FITTING, {"num_heads": 1 << 33}, "malformed", id="heads beyond 32 bits"),
        pytest.param(FITTING, {"num_heads": None}, "0 heads", id="heads left out"),
        pytest.param(FITTING, {"num_heads": 4.0}, "malformed", id="heads of another type"),
        pytest.param(FITTING, {"unidirectional": 1}, "attributes", id="an attribute for causal masks"),
        pytest.param(FITTING, {"mask_filter_value": 0.0}, "attributes", id="an attribute for masks"),
        pytest.param(FITTING, {"domain": ""}, "of the domain ''", id="the standard's domain"),
        pytest.param(FITTING, {"domain": "ai.onnx.ml"}, "of the domain", id="somebody's domain"),
        pytest.param(FITTING, {"opsets": [("", 18)]}, "operator sets", id="a set that is not imported"),
        pytest.param(FITTING, {"opsets": [("", 18), ("com.microsoft", 2)]}, "operator sets", id="another version"),
        pytest.param(FITTING, {"opsets": [("", 18), ("com.microsoft", 1), ("own", 1)]}, "operator sets", id="one more set"),
        pytest.param(FITTING, {"opsets": [("com.microsoft", 1), ("", 18)]}, "operator sets", id="another order"),
        pytest.param(FITTING, {"kind": TensorProto.DOUBLE}, "float32", id="double precision"),
        pytest.param(FITTING[:2], {}, "2 inputs", id="no values"),
        pytest.param([*FITTING, [88]], {}, "4 inputs", id="a bias"),
        pytest.param([["B", 50, 24], ["B", 70, 20], ["B", 70, 40]], {}, "fit", id="keys of another width"),
        pytest.param([["B", 50, 24], ["B", 70, 24], ["B", 60, 40]], {}, "fit", id="fewer values than keys"),
        pytest.param([["B", 50, 24], [1, 70, 24], [1, 70, 40]], {}, "fit", id="keys for one picture"),
        pytest.param([[1, 50, 24], ["B", 70, 24], ["B", 70, 40]], {}, "fit", id="queries for one picture"),
        pytest.param([["B", 50, 24], ["B", 4, 70, 6], ["B", 4, 70, 10]], {}, "fit|dimensions", id="keys of parted heads"),
        pytest.param([["B", 50, 4, 3, 24]] * 3, {}, "fit|dimensions", id="all in one"),
        pytest.param([["B", 24]] * 3, {}, "fit|dimensions", id="two dimensions"),
        pytest.param([["B", 5, 4 * 513]] * 3, {}, "at most 512", id="wide heads"),
        pytest.param([["B", 1 << 24, 24]] * 3, {}, "more than a region", id="more work than any region takes"),
        pytest.param([["B", 1 << 27, 4], ["B", 1, 4], ["B", 1, 4]], {}, "more than a region", id="more memory"),
        pytest.param([["B", 1 << 30, 4], ["B", 1, 4], ["B", 1, 4]], {}, "can count", id="more entries than 32 bits count"),
    ],
)  # fmt: skip
def test_attention_that_does_not_fit_is_refused(shapes: list[list[int | str]], changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        judged(attending(*shapes, **changes))


def test_a_set_of_operators_that_nothing_uses_is_refused() -> None:
    with pytest.raises(ProtocolError, match="operator sets"):
        judged(model([node("Relu", "x")], opsets=[("", 18), ("com.microsoft", 1)]))


@pytest.mark.promise("graphs")
def test_scores_count_where_the_machine_holds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime holds all scores where it does not know the second cache: 16 GiB of 64 heads of 8192 tokens."""
    wide = attending([1, 8192, 64], [1, 8192, 64], [1, 8192, 64], num_heads=64)
    monkeypatch.setattr("hecompile.onnx_attention.os.sysconf", lambda name: 1 << 20)
    judged(wide)
    monkeypatch.setattr("hecompile.onnx_attention.os.sysconf", lambda name: 0)
    with pytest.raises(ProtocolError, match="16 GiB at once"):
        judged(wide)
