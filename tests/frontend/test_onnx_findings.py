"""What is said of ONNX files that cannot be read as they are: which node, what is wrong, what helps."""

from __future__ import annotations

import random

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from hecompile.errors import CompileError, Diagnostic
from tests.frontend.onnx_files import Array, canonical, difference, file_of, node, normal, refusal

KERNEL = normal(4, 4, 3, 3)
CONV = node("Conv", ["x", "w"], ["h"], pads=[1, 1, 1, 1])


def only(data: bytes) -> Diagnostic:
    """The one finding that a file is refused with."""
    (finding,) = refusal(data).diagnostics
    return finding


@pytest.mark.parametrize("last", [
    node("Resize", ["h", "", "n"], ["upsampled_17"], mode="cubic"), node("Softmax", ["h"], ["upsampled_17"], axis=0),
    node("Det", ["h"], ["upsampled_17"]), node("Cast", ["h"], ["upsampled_17"], to=TensorProto.STRING),
    node("Reshape", ["h", "s"], ["upsampled_17"]), node("Gather", ["h", "far"], ["upsampled_17"]),
    helper.make_node("Fused", ["h"], ["upsampled_17"], domain="com.example"),
], ids=lambda last: last.op_type)  # fmt: skip
def test_a_node_without_a_name_goes_by_its_first_output(last: onnx.NodeProto) -> None:
    weights = {"w": KERNEL, "n": np.ones(4, np.float32) * 2, "s": np.array([3, 5]), "far": np.array(9)}
    model = onnx.load_model_from_string(file_of([CONV, last], weights, outputs=("upsampled_17",)))
    if last.domain:
        model.opset_import.append(helper.make_opsetid("com.example", 1))
    finding = only(model.SerializeToString())
    assert finding.source == "model.onnx:upsampled_17"
    assert finding.line.startswith("upsampled_17 = ")
    assert finding.line[slice(*finding.underline)] == last.op_type
    assert finding.help


def test_a_finding_of_a_later_pass_names_the_node_too() -> None:
    nodes = [node("Conv", ["x", "x"], ["upsampled_17"])]
    assert "model.onnx:upsampled_17" in str(refusal(file_of(nodes, outputs=("upsampled_17",))))


@pytest.mark.parametrize("training", ["constant", "input"])
def test_dropout_that_draws_is_refused(training: str) -> None:
    inputs = {"x": ("B", 4, 8, 8), "train": ()} if training == "input" else None
    weights = {"r": np.array(0.5, np.float32), **({"train": np.array(True)} if training == "constant" else {})}
    model = onnx.load_model_from_string(file_of([node("Dropout", ["x", "r", "train"])], weights, inputs=inputs))
    if inputs:
        model.graph.input[1].type.tensor_type.elem_type = TensorProto.BOOL
    finding = only(model.SerializeToString())
    assert "draws random numbers" in finding.message
    assert "model.eval()" in finding.help


@pytest.mark.parametrize("training", [None, False])
def test_dropout_that_does_not_draw_is_nothing(training: bool | None) -> None:
    more = [] if training is None else ["train"]
    data = file_of(
        [CONV, node("Dropout", ["h", "r", *more])], {"w": KERNEL, "r": np.array(0.5, np.float32), "train": np.array(False)}
    )
    assert difference(data) < 2e-6


def test_batch_normalization_in_training_is_refused() -> None:
    names = ["s", "b", "m", "v"]
    nodes = [node("BatchNormalization", ["x", *names], ["y", "mean", "var"], training_mode=1)]
    finding = only(file_of(nodes, {name: np.ones(4, np.float32) for name in names}))
    assert "training mode" in finding.message


@pytest.mark.parametrize(("first", "unread"), [
    (node("MaxPool", ["h"], ["p", "indices"], kernel_shape=[2, 2]), "indices"),
    (node("Dropout", ["h"], ["p", "mask"]), "mask"),
    (node("LayerNormalization", ["h", "s"], ["p", "mean", "deviation"]), "deviation"),
], ids=lambda item: getattr(item, "op_type", item))  # fmt: skip
def test_results_that_nobody_reads_are_left_out_and_others_are_named(first: onnx.NodeProto, unread: str) -> None:
    weights = {"w": KERNEL, "s": np.ones(8, np.float32)}
    assert difference(file_of([CONV, first, node("Relu", ["p"])], weights)) < 2e-6
    nodes = [CONV, first, node("Cast", [unread], ["c"], to=TensorProto.FLOAT), node("Neg", ["c"])]
    finding = only(file_of(nodes, weights))
    assert f"its output '{unread}' is not supported" in finding.message
    assert finding.source == "model.onnx:p"


def test_an_unsupported_result_that_is_an_output_is_named() -> None:
    data = file_of([node("MaxPool", ["x"], ["p", "indices"], kernel_shape=[2, 2])], outputs=("p", "indices"))
    assert "'indices' is not supported" in only(data).message


@pytest.mark.parametrize("target", [[2, 4, 64], [1, 4, 64], [2, -1, 64], [2, 256], [8, 64], [3, 4, 8, 8]])
def test_a_batch_that_is_written_into_a_shape_is_told_with_how_to_export(target: list[int]) -> None:
    finding = only(file_of([CONV, node("Reshape", ["h", "s"], name="/attn/Reshape")], {"w": KERNEL, "s": np.array(target)}))
    assert finding.message == f"Reshape: the shape {target} contains the batch size of the export as a constant"
    assert finding.source == "model.onnx:/attn/Reshape"
    assert "dynamic_axes={'x': {0: 'batch'}}" in finding.help


@pytest.mark.parametrize("target", [[0, 4, 64], [-1, 4, 64], [0, -1, 64], [-1, 64], [0, 0, -1]])
def test_shapes_that_follow_the_batch_are_read(target: list[int]) -> None:
    assert difference(file_of([CONV, node("Reshape", ["h", "s"])], {"w": KERNEL, "s": np.array(target)})) < 2e-6


def test_a_shape_that_fits_no_batch_is_told_otherwise() -> None:
    assert "batch" not in only(file_of([CONV, node("Reshape", ["h", "s"])], {"w": KERNEL, "s": np.array([0, 5, -1])})).message


@pytest.mark.parametrize(("nodes", "weight"), [
    ([node("Add", ["h", "c"])], normal(2, 4, 8, 8)), ([node("Mul", ["c", "h"])], normal(3, 1, 1, 1)),
    ([node("Concat", ["h", "c"], axis=1)], normal(1, 4, 8, 8)), ([node("MatMul", ["h", "c"])], normal(2, 4, 8, 8)),
    ([node("Greater", ["h", "c"], ["g"]), node("Where", ["g", "h", "h"])], normal(2, 1, 8, 8)),
    ([node("Max", ["h", "h", "c"])], normal(2, 4, 8, 8)), ([node("Expand", ["h", "c"])], np.array([2, 4, 8, 8])),
], ids=lambda item: item[0].op_type if isinstance(item, list) else "")  # fmt: skip
def test_a_constant_of_one_batch_is_told(nodes: list[onnx.NodeProto], weight: Array) -> None:
    finding = only(file_of([CONV, *nodes], {"w": KERNEL, "c": weight}))
    assert "batch size of the export as a constant" in finding.message
    assert "dynamic_axes" in finding.help


def test_old_opsets_are_refused_with_how_to_convert_them() -> None:
    for opset in (11, 12):
        assert "onnx.version_converter.convert_version" in only(file_of([node("Relu")], opset=opset)).help


def test_the_checker_stays_strict_beside_an_old_group_normalization() -> None:
    norm = node("GroupNormalization", ["x", "s", "s"], ["n"], num_groups=2)
    assert canonical(file_of([norm, node("Relu", ["n"])], {"s": normal(2)}, opset=18))
    wrong = file_of([norm, node("Relu", ["n"], slope=2)], {"s": normal(2)}, opset=18)
    assert "Unrecognized attribute: slope" in str(refusal(wrong))
    assert "not a valid ONNX model" in str(refusal(file_of([norm, node("Relu", ["absent"])], {"s": normal(2)}, opset=18)))


@pytest.mark.parametrize(("nodes", "what"), [
    ([node("Split", ["x"], ["y", "b"], axis=1)], None), ([node("Split", ["x", "three"], ["y", "b"], axis=1)], "cannot split 4"),
    ([node("Squeeze", ["x", "far"])], "along axis 99"), ([node("Unsqueeze", ["x", "far"])], "cannot unsqueeze axes [99]"),
    ([node("Transpose", perm=[0, 1])], "permute"), ([node("Slice", ["x", "one", "three", "one", "zero"])], "Slice cannot be read"),
    ([node("Pad", ["x", "three"])], "Pad needs two amounts for each of 4 axes, not 1"), ([node("Pad", ["x", "giant"])], "entries"),
    ([node("Trilu", ["x", "far"]), ], None), ([node("DepthToSpace", blocksize=3)], "reshape"),
    ([node("LayerNormalization", ["x", "w"], axis=0)], "over the batch dimension"),
    ([node("ReduceSum", ["x", "far"])], "along axis 99"),
    ([node("Constant", [], ["y"], value_string="a")], "dense tensor"),
    ([node("Gather", ["x", "zero"])], "along the batch dimension"),
    ([node("Conv", ["x", "w"], strides=[0, 1])], "strides (0, 1)"), ([node("Conv", ["x", "w"], pads=[1])], "pads (1,)"),
    ([node("OneHot", ["x", "far", "far"])], "OneHot"), ([node("CumSum", ["x", "zero"])], "CumSum along the batch dimension"),
], ids=lambda item: item[0].op_type if isinstance(item, list) else "")  # fmt: skip
def test_odd_nodes_are_refused_in_words(nodes: list[onnx.NodeProto], what: str | None) -> None:
    weights = {
        "zero": np.array([0]), "one": np.array([1]), "three": np.array([3]), "far": np.array([99]), "w": KERNEL,
        "giant": np.array([0, 0, 0, 0, 0, 0, 0, 1 << 40]),
    }  # fmt: skip
    data = file_of(nodes, weights)
    if what is None:
        assert canonical(data)
    else:
        assert what in str(refusal(data))


@pytest.mark.parametrize(("nodes", "what"), [
    ([node("Add", ["x", "one"])], "Add of types float and integer"),
    ([node("Conv", ["x", "ints"])], "Conv: input 1 is of type integer"),
    ([node("Cast", ["x"], ["i"], to=TensorProto.INT32), node("Sigmoid", ["i"])], "Sigmoid: input 0 is of type integer"),
    ([node("Not")], "Not: input 0 is of type float"), ([node("Reshape", ["x", "w"])], "Reshape: input 1 is of type float"),
    ([node("Where", ["x", "x", "x"])], "Where: input 0 is of type float"),
], ids=lambda item: item[-1].op_type if isinstance(item, list) else "")  # fmt: skip
def test_types_that_an_operator_does_not_take_are_refused(nodes: list[onnx.NodeProto], what: str) -> None:
    assert what in str(refusal(file_of(nodes, {"one": np.array([1]), "ints": KERNEL.astype(np.int32), "w": KERNEL})))


def test_names_that_are_no_text_are_refused() -> None:
    data = file_of([node("Relu", name="/block/relu")]).replace(b"/block/relu", b"/bloc\xff/relu")
    assert "a name is not text" in str(refusal(data))


RICH = file_of(
    [
        CONV, node("Resize", ["h", "", "n"], ["r"]),
        node("MaxPool", ["r"], ["p", "i"], kernel_shape=[3, 3], ceil_mode=1, auto_pad="SAME_UPPER"),
        node("Gather", ["p", "g"], ["q"], axis=1), node("Slice", ["q", "s", "e", "a", "t"], ["c"]),
        node("Pad", ["c", "b"], ["d"], mode="reflect"), node("PRelu", ["d", "l"], ["f"]), node("Shape", ["f"], ["k"]),
        node("Reshape", ["f", "k"]),
    ],
    {
        "w": KERNEL, "n": np.array([1, 1, 2, 1.5], np.float32), "g": np.array([[0, -1]]), "s": np.array([5]), "e": np.array([-99]),
        "a": np.array([-1]), "t": np.array([-2]), "b": np.array([0] * 9 + [1]), "l": normal(1),
    },
)  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_broken_bytes_end_in_a_refusal_or_a_graph(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(25):
        data = bytearray(RICH)
        for _ in range(draw.choice((1, 1, 3))):
            data[draw.randrange(len(data))] = draw.randrange(256)
        try:
            canonical(bytes(data))
        except CompileError:
            continue
