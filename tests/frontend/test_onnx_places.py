"""What ONNX files take, write or put around by places is what ONNX Runtime takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from tests.frontend.onnx_files import calls, difference, file_of, node, normal, refusal


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("diagonal", [None, 0, 2, -1, 9, -9])
def test_triangles(upper: int, diagonal: int | None) -> None:
    names = ["k"] if diagonal is not None else []
    nodes = [
        node("Trilu", ["x", *names], ["t"], upper=upper),
        node("Trilu", ["c", *names], ["u"], upper=upper),
        node("Add", ["t", "u"]),
    ]
    assert difference(file_of(nodes, {"k": np.array(diagonal or 0), "c": normal(5, 7)}, ("B", 3, 5, 7))) == 0


@pytest.mark.parametrize(("start", "end", "axes", "steps"), [
    ([1], [3], [1], [1]), ([1], [-99], [1], [-1]), ([3], [0], [1], [-1]), ([6], [-8], [2], [-2]), ([100], [-100], [3], [-3]),
    ([0], [2**63 - 1], [3], [2]), ([-3], [-1], [-1], [1]), ([1, 7], [3, 0], [2, 3], [1, -3]),
    ([5, -2], [0, -7], [-1, -2], [-2, -1]),
])  # fmt: skip
def test_slices_with_any_step(start: list[int], end: list[int], axes: list[int], steps: list[int]) -> None:
    weights = {name: np.array(numbers) for name, numbers in (("s", start), ("e", end), ("a", axes), ("t", steps))}
    assert difference(file_of([node("Slice", ["x", "s", "e", "a", "t"])], weights)) == 0
    nodes = [
        node("Slice", ["c", "s", "e", "a", "t"], ["d"]),
        node("Slice", ["x", "s", "e", "a", "t"], ["f"]),
        node("Mul", ["d", "f"]),
    ]
    assert difference(file_of(nodes, {**weights, "c": normal(1, 4, 8, 8)})) == 0


@pytest.mark.parametrize("index", [2, -1, [0, 3, 3, 1], [-1, 0], [1, 2, 3], [[0, 1], [2, -4]], [[[1]]]])
@pytest.mark.parametrize("axis", [1, -1])
def test_entries_by_lists_and_matrices_of_places(index: object, axis: int) -> None:
    assert difference(file_of([node("Gather", ["x", "i"], axis=axis)], {"i": np.array(index)})) == 0


def test_places_that_follow_each_other_are_a_slice() -> None:
    assert calls(file_of([node("Gather", ["x", "i"], axis=1)], {"i": np.array([1, 2, 3])})) == ["slice"]
    assert calls(file_of([node("Gather", ["x", "i"], axis=1)], {"i": np.array([1, 3, 2])})) == ["index_select"]


@pytest.mark.parametrize("kind", ["Gather", "GatherElements", "GatherND", "ScatterND"])
def test_places_outside_are_refused(kind: str) -> None:
    inputs = ["c", "i", "u"] if kind == "ScatterND" else ["c", "i"]
    data = file_of([node(kind, inputs, ["g"]), node("Add", ["x", "g"])], {"c": normal(3), "i": np.array([[3]]), "u": normal(1)})
    assert f"{kind}: an index is out of range for 3 entries" in str(refusal(data))


@pytest.mark.parametrize(
    ("shape", "axis"), [((10, 6), 0), ((6, 10), 1), ((10, 2, 3), 0), ((2, 10, 3), 1), ((2, 3, 10), -1), ((10,), 0)]
)
def test_rows_of_tables_by_an_input(shape: tuple[int, ...], axis: int) -> None:
    data = file_of([node("Gather", ["w", "i"], axis=axis)], {"w": normal(*shape)}, inputs={"i": ("B", 3)}, kind=TensorProto.INT64)
    assert difference(data) == 0


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge", "wrap"])
@pytest.mark.parametrize(("shape", "amounts"), [
    (("B", 4, 8, 8), [0, 0, 1, 2, 0, 0, 3, 1]), (("B", 4, 8, 8), [0, 1, 0, 0, 0, 2, 0, 0]),
    (("B", 4, 8, 8), [0, 0, -1, 0, 0, 0, 2, -2]),
    (("B", 3, 7), [0, 0, 2, 0, 0, 3]), (("B", 2, 3, 5, 4), [0, 0, 1, 2, 2, 0, 0, 1, 0, 1]),
])  # fmt: skip
def test_borders_of_every_kind(mode: str, shape: tuple[str | int, ...], amounts: list[int]) -> None:
    assert difference(file_of([node("Pad", ["x", "p"], mode=mode)], {"p": np.array(amounts)}, shape, opset=19)) == 0


def test_borders_of_a_number_and_of_named_axes() -> None:
    weights = {"p": np.array([1, 2, 0, 3]), "v": np.array(2.5, np.float32), "a": np.array([-1, 2])}
    assert difference(file_of([node("Pad", ["x", "p", "v", "a"])], weights, opset=18)) == 0


def test_borders_of_a_picture_stay_one_operation() -> None:
    for mode, name in (("constant", "constant_pad_nd"), ("reflect", "reflection_pad2d"), ("edge", "replication_pad2d")):
        assert calls(file_of([node("Pad", ["x", "p"], mode=mode)], {"p": np.array([0, 0, 1, 2, 0, 0, 3, 1])})) == [name]


def written(places: object, updates: str = "u") -> bytes:
    """A file that writes the first entries of a value, its axes in another order, into the value."""
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 2, 0]),
        node("Reshape", ["t", "rows"], ["flat"]),
        node("Slice", ["flat", "zero", "count"], ["u"]),
        node("ScatterND", ["t", "i", updates], ["s"]),
        node("Transpose", ["s"], perm=[2, 0, 1]),
    ]
    index = np.array(places)
    return file_of(
        nodes, {"i": index, "rows": np.array([32, -1]), "zero": np.array([0]), "count": np.array([len(index)])}, ("B", 4, 8)
    )


@pytest.mark.parametrize("places", [[[3, 1], [0, -1], [2, 2]], [[1, 1]]])
def test_entries_are_written_at_constant_places(places: list[list[int]]) -> None:
    assert difference(written(places)) == 0


def of_every_element(kind: str, own: list[Any], **more: Any) -> bytes:
    """A file that reads or writes the same places of every element of the batch; its index is the batch's own length."""
    inner = np.array(own)
    shape = [node("Shape", ["x"], ["all"]), node("Slice", ["all", "zero", "one"], ["batch"])]
    wide = [node("Concat", ["batch", "inner"], ["sizes"], axis=0), node("Expand", ["own", "sizes"], ["i"])]
    inputs = ["x", "i"]
    if kind.startswith("Scatter"):
        wide += [node("Expand", ["part", "sizes"], ["u"])]
        inputs.append("u")
    weights = {
        "zero": np.array([0]), "one": np.array([1]), "inner": np.array(inner.shape), "own": inner,
        "part": normal(1, *inner.shape),
    }  # fmt: skip
    return file_of([*shape, *wide, node(kind, inputs, **more)], weights, ("B", 4, 8))


@pytest.mark.parametrize("kind", ["GatherElements", "ScatterElements"])
@pytest.mark.parametrize(("own", "axis"), [([[0, -1, 2, 3]], 1), ([[0, 1], [-2, 3], [4, 5]], 2)])
def test_places_of_single_entries_alike_in_the_batch(kind: str, own: list[Any], axis: int) -> None:
    assert difference(of_every_element(kind, own, axis=axis)) == 0


def test_places_of_several_axes_alike_in_the_batch() -> None:
    assert difference(of_every_element("GatherND", [[0, -1], [2, 3]], batch_dims=1)) == 0
    assert difference(of_every_element("GatherND", [[[1]], [[0]]], batch_dims=1)) == 0


@pytest.mark.parametrize("shared", [0, 1])
def test_constants_are_read_at_places_of_several_axes(shared: int) -> None:
    nodes = [node("GatherND", ["c", "i"], ["g"], batch_dims=shared), node("Add", ["x", "g"])]
    index = np.array([[2], [0], [-1], [1]])
    assert difference(file_of(nodes, {"c": normal(4, 5, 8), "i": index}, ("B", 4, 8) if shared else ("B", 4, 5, 8))) == 0


def test_scatters_that_reduce_are_refused() -> None:
    nodes = [node("ScatterND", ["c", "i", "u"], ["s"], reduction="add"), node("Add", ["x", "s"])]
    data = file_of(nodes, {"c": normal(8), "i": np.array([[1]]), "u": normal(1)}, opset=18)
    assert "ScatterND with a reduction" in str(refusal(data))
