"""Operators of ONNX files compute what ONNX Runtime computes: entry by entry, over axes, in every type."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from hecompile.ir.linear import Array
from tests.frontend.onnx_files import TOLERANCE, calls, canonical, difference, file_of, node, normal, refusal

AXES: list[Any] = [[1], [-1], [1, 3], [1, 2, 3]]
NEW_OPSETS = {"Mish": 18, "Gelu": 20, "Swish": 24}


@pytest.mark.parametrize(
    "kind",
    ["Abs", "Exp", "Tan", "Erf", "Round", "Sign", "Softplus", "HardSwish", "HardSigmoid", "Softsign", "Mish", "Gelu"],
)
def test_functions_of_one_value(kind: str) -> None:
    assert difference(file_of([node(kind)], opset=NEW_OPSETS.get(kind, 17))) <= TOLERANCE


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("kind", ["Elu", "Celu", "Selu", "LeakyRelu", "ThresholdedRelu", "Swish"])
def test_activations_with_a_parameter(kind: str, alpha: float) -> None:
    assert difference(file_of([node(kind, alpha=alpha)], opset=NEW_OPSETS.get(kind, 17))) <= TOLERANCE


def test_activations_have_the_parameters_of_the_standard() -> None:
    assert difference(file_of([node("Selu"), node("Celu", ["y"], ["z"])], outputs=("z",))) <= TOLERANCE
    assert difference(file_of([node("Shrink", lambd=0.4, bias=0.2)])) <= TOLERANCE


@pytest.mark.parametrize("shape", [(), (1,), (8,), (4, 1, 1), (1, 4, 1, 1), (4, 8, 8)])
def test_slopes_of_every_shape(shape: tuple[int, ...]) -> None:
    assert difference(file_of([node("PRelu", ["x", "s"])], {"s": normal(*shape)})) <= TOLERANCE


def test_a_lone_slope_is_a_leaky_relu() -> None:
    assert calls(file_of([node("PRelu", ["x", "s"])], {"s": normal(1)})) == ["leaky_relu"]


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize(
    "kind", ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"]
)
def test_reductions(kind: str, axes: list[int]) -> None:
    for keep in (0, 1):
        assert difference(file_of([node(kind, ["x", "a"], keepdims=keep)], {"a": np.array(axes)}, opset=18)) <= TOLERANCE


def test_the_logarithm_of_a_sum() -> None:
    assert difference(file_of([node("Abs", ["x"], ["p"]), node("ReduceLogSum", ["p"], axes=[1, 2])])) <= TOLERANCE


def test_large_numbers_do_not_overflow_in_logarithms_of_sums() -> None:
    nodes = [node("Mul", ["x", "c"], ["m"]), node("ReduceLogSumExp", ["m"], ["r"], axes=[1]), node("LogSoftmax", ["m"], ["l"])]
    data = file_of([*nodes, node("Add", ["r", "l"])], {"c": np.array(500, np.float32)})
    assert difference(data) <= TOLERANCE


@pytest.mark.parametrize("axis", [1, -1, 2])
@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax"])
def test_softmax_along_every_axis(kind: str, axis: int) -> None:
    assert difference(file_of([node(kind, axis=axis)])) <= TOLERANCE


@pytest.mark.parametrize("kind", ["Mean", "Sum", "Max", "Min"])
def test_operators_of_any_number_of_values(kind: str) -> None:
    assert difference(file_of([node(kind, ["x", "c", "x"])], {"c": normal(4, 1, 8)})) <= TOLERANCE


@pytest.mark.parametrize(("exclusive", "reverse"), [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("axis", [1, -1])
def test_running_sums(axis: int, exclusive: int, reverse: int) -> None:
    of_a_value = [node("CumSum", ["x", "a"], exclusive=exclusive, reverse=reverse)]
    of_a_constant = [node("CumSum", ["c", "a"], ["s"], exclusive=exclusive, reverse=reverse), node("Mul", ["x", "s"])]
    weights = {"a": np.array(axis), "c": normal(1, 5, 3, 7)}
    assert difference(file_of(of_a_value, weights, ("B", 5, 3, 7))) <= TOLERANCE
    assert difference(file_of(of_a_constant, weights, ("B", 5, 3, 7))) <= TOLERANCE


@pytest.mark.parametrize("half", [np.float16, np.float64])
def test_weights_and_inputs_of_other_precisions_become_float32(half: type[Any]) -> None:
    weight: Array = (0.3 * normal(4, 4, 3, 3)).astype(half)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(half))
    graph = canonical(file_of([node("Conv", ["x", "w"])], {"w": weight}, kind=kind, result=kind))
    x = torch.randn(3, 4, 8, 8)
    assert graph.inputs[0].dtype == "float32"
    assert torch.allclose(graph(x)[0], torch.nn.functional.conv2d(x, torch.from_numpy(weight.astype(np.float32))), atol=1e-5)


def test_bfloat16_is_read() -> None:
    weight = helper.make_tensor("w", TensorProto.BFLOAT16, [4, 1, 1], np.array([0.5, -2, 1, 3], np.float32))
    nodes = [
        node("Cast", ["x"], ["h"], to=TensorProto.BFLOAT16),
        node("Mul", ["h", "w"], ["m"]),
        node("Cast", ["m"], to=TensorProto.FLOAT),
    ]
    model = onnx.load_model_from_string(file_of(nodes))
    model.graph.initializer.append(weight)
    x = torch.randn(2, 4, 8, 8)
    result = canonical(model.SerializeToString())(x)[0]
    assert torch.equal(result, x * torch.tensor([0.5, -2, 1, 3]).reshape(4, 1, 1))


def test_a_half_precision_file_is_near_to_onnx_runtime() -> None:
    nodes = [node("Conv", ["x", "w"], ["h"]), node("GlobalAveragePool", ["h"], ["g"]), node("Sub", ["h", "g"])]
    data = file_of(
        nodes, {"w": (0.3 * normal(4, 4, 3, 3)).astype(np.float16)}, kind=TensorProto.FLOAT16, result=TensorProto.FLOAT16
    )
    assert difference(data) <= 2e-3


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.BOOL])
def test_integers_of_every_width_are_inputs(kind: int) -> None:
    data = file_of([node("Cast", ["x"], ["f"], to=TensorProto.FLOAT), node("Mul", ["f", "c"])], {"c": normal(8)}, kind=kind)
    assert difference(data) == 0


@pytest.mark.parametrize("to", [TensorProto.INT32, TensorProto.INT8, TensorProto.BOOL, TensorProto.FLOAT16])
def test_casts_and_back(to: int) -> None:
    nodes = [node("Mul", ["x", "c"], ["m"]), node("Cast", ["m"], ["i"], to=to), node("Cast", ["i"], to=TensorProto.FLOAT)]
    assert difference(file_of(nodes, {"c": np.array(5, np.float32)})) <= (1e-3 if to == TensorProto.FLOAT16 else 0)


@pytest.mark.parametrize(("kind", "zero"), [(np.int8, 3), (np.uint8, 130), (np.int8, None), (np.int32, None)])
def test_constants_are_dequantised(kind: type[Any], zero: int | None) -> None:
    weight: Array = (50 * np.abs(normal(4, 1, 1))).astype(kind)
    more: dict[str, Array] = {"z": np.array(zero, kind)} if zero is not None else {}
    nodes = [node("DequantizeLinear", ["w", "s", *more], ["f"]), node("Add", ["x", "f"])]
    assert difference(file_of(nodes, {"w": weight, "s": np.array(0.02, np.float32), **more})) <= TOLERANCE


def test_constants_are_dequantised_block_by_block() -> None:
    nodes = [node("DequantizeLinear", ["w", "s"], ["f"], axis=1, block_size=2), node("Add", ["x", "f"])]
    weights = {"w": (50 * normal(8, 8)).astype(np.int8), "s": np.abs(normal(8, 4))}
    assert difference(file_of(nodes, weights, opset=21)) <= TOLERANCE


def test_values_are_not_dequantised() -> None:
    data = file_of([node("DequantizeLinear", ["x", "s"])], {"s": np.array(0.1, np.float32)}, kind=TensorProto.INT8)
    assert "DequantizeLinear needs a constant" in str(refusal(data))


@pytest.mark.parametrize(("opset", "count"), [(18, 2), (21, 4)])
def test_group_normalization_has_scales_per_group_then_per_channel(opset: int, count: int) -> None:
    data = file_of(
        [node("GroupNormalization", ["x", "s", "b"], num_groups=2)], {"s": normal(count), "b": normal(count, seed=1)}, opset=opset
    )
    assert calls(data) == ["group_norm"]
    assert difference(data) <= TOLERANCE


def test_layer_normalization_and_batch_normalization() -> None:
    layer = file_of([node("LayerNormalization", ["x", "s", "b"], axis=2)], {"s": normal(8, 8), "b": normal(8, 8, seed=1)})
    batch = {name: np.abs(normal(4, seed=seed)) + 0.1 for seed, name in enumerate(("s", "b", "m", "v"))}
    assert difference(layer) <= TOLERANCE
    assert difference(file_of([node("BatchNormalization", ["x", *batch])], batch)) <= TOLERANCE


def test_constants_of_a_shape_and_diagonals() -> None:
    filled = node("ConstantOfShape", ["size"], ["c"], value=numpy_helper.from_array(np.array([2.5], np.float32)))
    nodes = [filled, node("EyeLike", ["w"], ["e"], k=1), node("MatMul", ["x", "e"], ["m"]), node("Add", ["m", "c"])]
    assert difference(file_of(nodes, {"size": np.array([4, 1, 8]), "w": normal(8, 8)})) == 0


def test_masks_with_infinities_are_no_broken_weights() -> None:
    mask = np.triu(np.full((8, 8), -np.inf, np.float32), 1)
    data = file_of([node("Add", ["x", "m"], ["a"]), node("Softmax", ["a"])], {"m": mask})
    assert difference(data) <= TOLERANCE


@pytest.mark.parametrize("nodes", [
    [node("DepthToSpace", blocksize=2)], [node("DepthToSpace", blocksize=2, mode="CRD")], [node("SpaceToDepth", blocksize=2)],
    [node("Greater", ["x", "zero"], ["g"]), node("Less", ["x", "one"], ["l"]), node("Xor", ["g", "l"], ["q"]),
     node("Where", ["q", "x", "zero"])],
    [node("Split", ["x"], ["a", "b", "c"], axis=2, num_outputs=3), node("Concat", ["c", "a"], axis=2)],
    [node("Mod", ["x", "one"], fmod=1)], [node("Clip", ["x", "", "one"])],
])  # fmt: skip
def test_other_operators(nodes: list[onnx.NodeProto]) -> None:
    weights = {"zero": np.array(0, np.float32), "one": np.array(0.7, np.float32)}
    assert difference(file_of(nodes, weights, opset=18)) <= TOLERANCE
