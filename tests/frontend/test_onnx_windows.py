"""Convolutions and pools in one, two and three dimensions compute what ONNX Runtime computes, whatever their padding."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from tests.frontend.onnx_files import TOLERANCE, calls, canonical, difference, file_of, node, normal, refusal

AUTO = ("VALID", "SAME_UPPER", "SAME_LOWER")
Sizes = tuple[int, ...]


def conv(kind: str, kernel: Sizes, sizes: Sizes = (7, 9), bias: bool = True, **more: Any) -> bytes:
    weights = {"w": normal(4, 4 // int(str(more.get("group", 1))), *kernel), **({"b": normal(4)} if bias else {})}
    return file_of([node(kind, ["x", *weights], **more)], weights, ("B", 4, *sizes))


def pool(kind: str, kernel: Sizes, sizes: Sizes = (7, 9), opset: int = 22, **more: Any) -> bytes:
    return file_of([node(kind, kernel_shape=kernel, **more)], {}, ("B", 3, *sizes), opset)


@pytest.mark.parametrize(
    ("kind", "kernel", "stride", "auto"),
    [*itertools.product(("Conv", "ConvTranspose"), [(3, 3), (2, 4), (1, 1)], [(1, 1), (2, 3)], AUTO)],
)
def test_padding_that_the_file_leaves_to_be_found(kind: str, kernel: Sizes, stride: Sizes, auto: str) -> None:
    assert difference(conv(kind, kernel, strides=stride, auto_pad=auto), [2]) <= TOLERANCE


@pytest.mark.parametrize("dilation", [(1, 2), (3, 1)])
def test_the_same_padding_of_a_dilated_kernel_is_torchs(dilation: Sizes) -> None:
    graph, x = canonical(conv("Conv", (3, 3), dilations=dilation, auto_pad="SAME_UPPER")), torch.randn(2, 4, 7, 9)
    weight, bias = torch.from_numpy(normal(4, 4, 3, 3)), torch.from_numpy(normal(4))
    expected = torch.nn.functional.conv2d(x, weight, bias, padding="same", dilation=dilation)
    assert torch.allclose(graph(x)[0], expected, atol=1e-5)


@pytest.mark.parametrize("pads", [(1, 1, 1, 1), (1, 0, 0, 1), (0, 2, 1, 0), (2, 1, 0, 3)])
@pytest.mark.parametrize(("kind", "stride"), [*itertools.product(("Conv", "ConvTranspose"), [(1, 1), (2, 2)])])
def test_padding_may_differ_between_the_sides(kind: str, stride: Sizes, pads: Sizes) -> None:
    assert difference(conv(kind, (4, 3), strides=stride, pads=pads, group=2), [2]) <= TOLERANCE


@pytest.mark.parametrize(
    ("shape", "auto"), [*itertools.product([(14, 18), (13, 17), (15, 19), (10, 12)], ["NOTSET", "SAME_UPPER", "SAME_LOWER"])]
)
def test_a_transposed_convolution_comes_to_the_size_that_the_file_wants(shape: Sizes, auto: str) -> None:
    data = conv("ConvTranspose", (3, 3), strides=(2, 2), output_shape=shape, auto_pad=auto)
    assert difference(data, [2]) <= TOLERANCE


@pytest.mark.parametrize("more", [{"output_padding": (1, 0)}, {"output_padding": (1, 1), "pads": (1, 0, 1, 2)}])
def test_output_padding_is_added(more: dict[str, Any]) -> None:
    assert difference(conv("ConvTranspose", (3, 3), strides=(2, 2), **more), [2]) <= TOLERANCE


def test_a_size_that_a_transposed_convolution_cannot_reach_is_refused() -> None:
    error = refusal(conv("ConvTranspose", (3, 3), strides=(2, 2), output_shape=(30, 30)))
    assert "ConvTranspose cannot give [30, 30]" in str(error)


@pytest.mark.parametrize("auto", ["NOTSET", *AUTO])
@pytest.mark.parametrize(("kind", "kernel", "sizes"), [
    ("Conv", (3,), (9,)), ("Conv", (4,), (9,)), ("ConvTranspose", (3,), (9,)), ("Conv", (1, 3, 3), (3, 6, 7)),
    ("ConvTranspose", (1, 2, 4), (3, 6, 7)),
])  # fmt: skip
def test_rows_and_volumes_are_convolved(kind: str, kernel: Sizes, sizes: Sizes, auto: str) -> None:
    stride = (1, 2, 2) if len(sizes) == 3 else (2,)
    assert difference(conv(kind, kernel, sizes, strides=stride, auto_pad=auto), [2]) <= TOLERANCE


def test_uneven_padding_of_rows_and_volumes() -> None:
    assert difference(conv("Conv", (3,), (9,), pads=(2, 1)), [2]) <= TOLERANCE
    assert difference(conv("ConvTranspose", (3,), (9,), pads=(2, 1)), [2]) <= TOLERANCE
    assert difference(conv("Conv", (1, 3, 3), (3, 6, 7), pads=(0, 1, 1, 0, 0, 1)), [2]) <= TOLERANCE


def test_a_bias_that_is_computed_is_added() -> None:
    nodes = [
        node("ReduceMean", ["x"], ["all"], axes=[1, 2, 3], keepdims=0),
        node("Conv", ["x", "w", "b"], ["h"]),
        node("Add", ["h", "c"]),
    ]
    weights = {"w": normal(4, 4, 3, 3), "b": normal(4), "c": normal(4, 1, 1)}
    assert difference(file_of(nodes[1:], weights)) <= TOLERANCE
    assert calls(file_of([node("Conv", ["x", "w", "v"])], {"w": normal(4, 4, 1, 1)}, inputs={"x": ("B", 4, 8, 8), "v": (4,)})) == [
        "conv2d", "reshape", "add",
    ]  # fmt: skip


def test_a_kernel_of_another_shape_than_its_weight_is_refused() -> None:
    assert "kernel_shape is [5, 5]" in str(refusal(conv("Conv", (3, 3), kernel_shape=[5, 5])))


@pytest.mark.parametrize(
    ("kernel", "stride", "auto", "ceil"), [*itertools.product([(2, 2), (3, 2)], [(1, 1), (3, 2)], AUTO, (0, 1))]
)
@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
def test_pools_with_padding_to_be_found(kind: str, kernel: Sizes, stride: Sizes, auto: str, ceil: int) -> None:
    assert difference(pool(kind, kernel, strides=stride, auto_pad=auto, ceil_mode=ceil), [2]) <= TOLERANCE


@pytest.mark.parametrize(
    ("kernel", "pads", "ceil", "counted"),
    [*itertools.product([(3, 2)], [(1, 1, 1, 1), (1, 0, 0, 1), (0, 1, 2, 1)], (0, 1), (0, 1))],
)
def test_averages_count_the_padding_or_do_not(kernel: Sizes, pads: Sizes, ceil: int, counted: int) -> None:
    data = pool("AveragePool", kernel, strides=(2, 2), pads=pads, ceil_mode=ceil, count_include_pad=counted)
    assert difference(data, [2]) <= TOLERANCE


@pytest.mark.parametrize(
    "more", [{"dilations": (2, 1)}, {"pads": (1, 0, 0, 1)}, {"pads": (2, 2, 2, 2)}, {"ceil_mode": 1, "strides": (2, 3)}]
)
def test_the_largest_of_windows_with_dilation_and_padding(more: dict[str, Any]) -> None:
    assert difference(pool("MaxPool", (3, 3), **more), [2]) == 0


@pytest.mark.parametrize(
    ("kernel", "sizes"), [((3,), (9,)), ((2, 3, 2), (5, 6, 7)), ((1, 2, 2), (3, 6, 7)), ((3, 1, 1), (5, 6, 7))]
)
@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("ceil", [0, 1])
def test_pools_of_rows_and_volumes(kind: str, kernel: Sizes, sizes: Sizes, ceil: int) -> None:
    after = [int(size > 1) for size in kernel]
    data = pool(kind, kernel, sizes, strides=[2] * len(sizes), pads=[*[0] * len(sizes), *after], ceil_mode=ceil)
    assert difference(data, [2]) <= TOLERANCE


@pytest.mark.parametrize("sizes", [(9,), (7, 9), (3, 4, 5)])
@pytest.mark.parametrize("kind", ["GlobalMaxPool", "GlobalAveragePool"])
def test_pools_of_everything(kind: str, sizes: Sizes) -> None:
    assert difference(file_of([node(kind)], {}, ("B", 3, *sizes))) <= TOLERANCE


def test_pools_that_implementations_read_in_two_ways_are_refused() -> None:
    assert "give its padding in numbers" in str(refusal(pool("MaxPool", (3, 3), dilations=(2, 2), auto_pad="SAME_UPPER")))
    assert "write it as a Conv" in str(refusal(pool("AveragePool", (3, 3), dilations=(2, 2))))


def test_even_padding_stays_the_layers_own() -> None:
    assert calls(conv("Conv", (3, 3), pads=(1, 1, 1, 1))) == ["conv2d"]
    assert calls(conv("ConvTranspose", (4, 4), strides=(2, 2), pads=(1, 1, 1, 1))) == ["conv_transpose2d"]
    assert calls(pool("AveragePool", (3, 3), pads=(1, 1, 1, 1))) == ["avg_pool2d"]


def test_a_constant_is_convolved_while_reading() -> None:
    nodes = [node("Conv", ["c", "w"], ["k"], pads=[1, 1, 1, 1]), node("Add", ["x", "k"])]
    data = file_of(nodes, {"c": normal(1, 4, 8, 8), "w": normal(4, 4, 3, 3)})
    assert calls(data) == ["add"]
    assert difference(data) <= TOLERANCE


def test_windows_wider_than_their_picture_are_refused() -> None:
    assert "MaxPool: a window of 9 entries does not fit 7 entries" in str(refusal(pool("MaxPool", (9, 3))))


def test_weights_of_eight_bits_are_read() -> None:
    weight = (50 * normal(4, 4, 3, 3)).astype(np.int8)
    nodes = [node("DequantizeLinear", ["w", "s", "z"], ["f"], axis=0), node("Conv", ["x", "f"])]
    zeros = np.array([0, 1, -2, 3], np.int8)
    assert difference(file_of(nodes, {"w": weight, "s": np.abs(normal(4)), "z": zeros})) <= TOLERANCE
