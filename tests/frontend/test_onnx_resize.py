"""Resize takes the entries that ONNX Runtime takes, whatever the factors, and stays a replication where it is one."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from tests.frontend.onnx_files import TOLERANCE, calls, canonical, difference, file_of, node, refusal

PLACES = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "asymmetric", "align_corners")
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
FACTORS = ((0.3, 1.5), (2 / 3, 2.0), (7 / 6, 3.0), (2.5, 1 / 3))


def resize(
    how: str, numbers: tuple[float, ...] | list[int], sizes: tuple[int, ...] = (7, 9), opset: int = 19, **more: Any
) -> bytes:
    """A file that resizes a picture of three channels, or what else has these sizes, by `scales` or to `sizes`."""
    axes = [2 + place for place in range(len(sizes))]
    inputs = ["x", "", "n"] if how == "scales" else ["x", "", "", "n"]
    weights = {"n": np.array(numbers, np.float32 if how == "scales" else np.int64)}
    return file_of([node("Resize", inputs, **({"axes": axes} | more))], weights, ("B", 3, *sizes), opset)


@pytest.mark.parametrize(("place", "rounding", "factors"), [*itertools.product(PLACES, ROUNDINGS, FACTORS)])
def test_nearest_takes_the_entries_that_onnx_runtime_takes(place: str, rounding: str, factors: tuple[float, float]) -> None:
    data = resize("scales", factors, mode="nearest", coordinate_transformation_mode=place, nearest_mode=rounding)
    assert difference(data, [2]) == 0


@pytest.mark.parametrize(("place", "rounding"), [*itertools.product(PLACES, ROUNDINGS)])
def test_nearest_to_sizes_does_too(place: str, rounding: str) -> None:
    more: dict[str, Any] = {"mode": "nearest", "coordinate_transformation_mode": place, "nearest_mode": rounding}
    assert difference(resize("sizes", [6, 11], (20, 3), **more), [2]) == 0


@pytest.mark.parametrize(("place", "factors"), [*itertools.product(PLACES, FACTORS)])
def test_linear_resizing_is_that_of_onnx_runtime(place: str, factors: tuple[float, float]) -> None:
    assert difference(resize("scales", factors, mode="linear", coordinate_transformation_mode=place), [2]) <= TOLERANCE


@pytest.mark.parametrize("sizes", [[9, 5], [6, 18], [13, 7], [1, 1]])
@pytest.mark.parametrize("place", ["half_pixel", "pytorch_half_pixel", "align_corners"])
def test_linear_resizing_to_sizes_comes_to_these_sizes(place: str, sizes: list[int]) -> None:
    assert difference(resize("sizes", sizes, mode="linear", coordinate_transformation_mode=place), [2]) <= TOLERANCE


def test_sizes_of_the_bilinear_operation_are_met_though_the_product_rounds_down() -> None:
    data = resize("sizes", [61, 9], (7, 7), mode="linear")
    assert calls(data) == ["upsample_bilinear2d"]
    assert difference(data, [2]) <= TOLERANCE


@pytest.mark.parametrize(
    ("place", "rounding", "factor"),
    [
        ("asymmetric", "floor", 2),
        ("asymmetric", "floor", 3),
        ("half_pixel", "round_prefer_floor", 2),
        ("half_pixel", "round_prefer_ceil", 3),
    ],
)
def test_whole_factors_stay_a_replication(place: str, rounding: str, factor: int) -> None:
    more: dict[str, Any] = {"coordinate_transformation_mode": place, "nearest_mode": rounding}
    assert calls(resize("scales", (factor, factor), **more)) == ["upsample_nearest2d"]
    assert calls(resize("scales", (1.0, factor), **more)) == ["upsample_nearest2d"]
    assert "upsample_nearest2d" in calls(resize("scales", (factor,), (9,), **more))


@pytest.mark.parametrize(("place", "rounding"), [("asymmetric", "ceil"), ("half_pixel", "floor"), ("align_corners", "floor")])
def test_whole_factors_that_move_the_picture_are_no_replication(place: str, rounding: str) -> None:
    more: dict[str, Any] = {"coordinate_transformation_mode": place, "nearest_mode": rounding}
    assert "upsample_nearest2d" not in calls(resize("scales", (2, 2), **more))


@pytest.mark.parametrize(("sizes", "factors"), [((9,), (1.4,)), ((4, 5, 6), (1.5, 0.5, 2)), ((4, 5, 6), (1, 2, 2)), ((9,), (2,))])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_rows_and_volumes_are_resized(mode: str, sizes: tuple[int, ...], factors: tuple[float, ...]) -> None:
    assert difference(resize("scales", factors, sizes, mode=mode)) <= TOLERANCE


def test_channels_are_resized() -> None:
    assert difference(resize("scales", (1, 2, 1, 1.5), mode="nearest", axes=[0, 1, 2, 3])) == 0


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
@pytest.mark.parametrize("wanted", [[12, 20], [5, 5], [20, 8]])
def test_the_aspect_ratio_is_kept_as_onnx_runtime_keeps_it(policy: str, wanted: list[int]) -> None:
    assert difference(resize("sizes", wanted, keep_aspect_ratio_policy=policy), [2]) == 0


def test_without_axes_all_sizes_are_given_and_the_batch_stays() -> None:
    nodes = [
        node("Shape", ["x"], ["all"]),
        node("Slice", ["all", "start", "two"], ["front"]),
        node("Concat", ["front", "more"], ["sizes"], axis=0),
        node("Resize", ["x", "", "", "sizes"], mode="nearest"),
    ]
    data = file_of(nodes, {"start": np.array([0]), "two": np.array([2]), "more": np.array([5, 20])}, opset=13)
    assert difference(data) == 0


@pytest.mark.parametrize(
    "more",
    [{"mode": "cubic"}, {"mode": "linear", "antialias": 1}, {"coordinate_transformation_mode": "tf_crop_and_resize"}],
)
def test_other_resizing_is_refused_with_what_is_supported(more: dict[str, Any]) -> None:
    error = refusal(resize("scales", (0.5, 0.5), **more))
    assert "Resize by [0.5, 0.5]" in str(error)
    assert "use nearest or linear" in str(error)


def test_the_batch_is_not_resized() -> None:
    assert "Resize of the batch dimension" in str(refusal(resize("scales", (2, 1, 1, 1), axes=[0, 1, 2, 3])))
    assert "batch size of the export" in str(refusal(resize("sizes", [2, 3, 5, 5], axes=[0, 1, 2, 3])))


def test_a_resizing_that_changes_nothing_is_left_out() -> None:
    nodes = [node("Resize", ["x", "", "n"], ["h"]), node("Relu", ["h"])]
    graph = canonical(file_of(nodes, {"n": np.ones(4, np.float32)}))
    assert [str(operator.target) for operator in graph.nodes if operator.op == "call_function"] == ["aten.relu.default"]
