"""A file's inputs keep their names, whatever these are, and its outputs their order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto

import hecompile
from hecompile.frontend.onnx import import_onnx
from tests.frontend.onnx_files import PICTURE, canonical, file_of, node, normal, reference, refusal

NAMES = [
    "x.1", "x_1", "input", "type", "class", "lambda", "None", "Lora_B", "a/b:0", "A/B:0", "größe", "名", " ", "_", "1", "x" * 300,
    "self", "torch", "inf", "forward", "w",
]  # fmt: skip


def summed(*names: str) -> bytes:
    """A file that adds its inputs with weights 1, 2, 3 ..., so that no two of them can be taken for each other."""
    weights = {f"factor of {name}": np.array(place + 1, np.float32) for place, name in enumerate(names)}
    nodes = [node("Mul", [name, f"factor of {name}"], [f"part of {name}"]) for name in names]
    return file_of([*nodes, node("Sum", [f"part of {name}" for name in names])], weights, inputs=dict.fromkeys(names, ("B", 2)))


def test_names_that_meet_stay_apart() -> None:
    graph = canonical(summed(*NAMES))
    values = [torch.full((3, 2), float(place)) for place in range(len(NAMES))]
    assert [spec.keyword for spec in graph.inputs] == [(name,) for name in NAMES]
    assert len({spec.name for spec in graph.inputs}) == len(NAMES)
    assert torch.equal(graph(*values)[0], torch.full((3, 2), float(sum(place * (place + 1) for place in range(len(NAMES))))))


@pytest.mark.parametrize("names", [("Timestep", "x"), ("x", "time.step", "timestep_"), ("TIMESTEP", "timestep", "x")])
def test_only_the_input_called_timestep_is_the_clock(names: tuple[str, ...]) -> None:
    graph = import_onnx(summed(*names), frozenset())
    assert [spec.keyword[0] for spec in graph.inputs if spec.name == "timestep"] == [name for name in names if name == "timestep"]
    assert [spec.shape for spec in graph.inputs if spec.keyword[0] != "timestep"] == [graph.inputs[-1].shape] * (
        len(names) - names.count("timestep")
    )


def test_public_inputs_go_by_the_files_names() -> None:
    graph = import_onnx(summed("x.1", "x_1"), frozenset({"x.1"}))
    assert [spec.public for spec in graph.inputs] == [True, False]


@pytest.mark.parametrize("shape", [(0, 2), (-1, 2)])
def test_a_batch_of_no_size_is_dynamic(shape: tuple[int, int]) -> None:
    assert str(canonical(file_of([node("Relu")], shape=shape)).inputs[0].shape[0]) == "B"


def test_inputs_without_a_shape_or_of_giant_size_are_refused() -> None:
    assert "a tensor of" in str(refusal(file_of([node("Relu")], shape=("B", 1 << 40))))
    assert "not a tensor of floats" in str(refusal(file_of([node("Identity")], kind=TensorProto.STRING)))


def test_outputs_keep_their_order_and_may_be_one_twice() -> None:
    nodes = [node("Relu", ["x"], ["a"]), node("Neg", ["a"], ["b"]), node("Identity", ["b"], ["c"])]
    graph, x = canonical(file_of(nodes, outputs=("b", "a", "c"))), torch.randn(2, 4, 8, 8)
    results = graph(x)
    assert [item.place for item in graph.signature.results.items] == [0, 1, 2]
    assert all(torch.equal(result, expected) for result, expected in zip(results, (-x.relu(), x.relu(), -x.relu()), strict=True))


@pytest.mark.parametrize(("nodes", "what"), [
    ([node("Identity")], "is the input 'x', unchanged"), ([node("Reshape", ["x", "same"])], "is the input 'x', unchanged"),
    ([node("Shape", ["x"])], "is a constant"), ([node("Neg", ["w"])], "is a constant"),
])  # fmt: skip
def test_outputs_that_nothing_computes_are_refused_by_name(nodes: list[object], what: str) -> None:
    data = file_of([node("Relu", ["x"], ["h"]), *nodes], {"w": normal(3), "same": np.array([0, 4, 8, 8])}, outputs=("h", "y"))  # type: ignore[list-item]
    assert f"output 'y' {what}" in str(refusal(data))


def test_a_weight_or_an_input_as_an_output_is_refused() -> None:
    assert "output 'w' is a constant" in str(refusal(file_of([node("Relu")], {"w": normal(3)}, outputs=("y", "w"))))
    assert "output 'x' is the input 'x', unchanged" in str(refusal(file_of([node("Relu")], outputs=("y", "x"))))


def test_a_loaded_model_is_called_by_the_files_names_and_gives_its_outputs_in_order(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x.1", "w"], ["h"], pads=[1, 1, 1, 1]),
        node("Resize", ["h", "", "n"], ["r"]),
        node("Gather", ["r", "g"], ["p"], axis=1),
        node("Add", ["h", "x_1"], ["s"]),
    ]
    weights = {"w": 0.3 * normal(4, 4, 3, 3), "n": np.array([1, 1, 1.5, 0.5], np.float32), "g": np.array([2, 0, 0])}
    data = file_of(nodes, weights, inputs={"x.1": PICTURE, "x_1": PICTURE}, outputs=("s", "p"))
    (tmp_path / "net.onnx").write_bytes(data)
    hecompile.compile(tmp_path / "net.onnx", tmp_path / "net.he", options=hecompile.CompileOptions(backend="clear"))
    feeds = {"x.1": normal(2, 4, 8, 8), "x_1": normal(2, 4, 8, 8, seed=1)}
    with torch.no_grad():
        model = hecompile.load(tmp_path / "net.he", policy="simulation")
        results = model(**{name: torch.from_numpy(value) for name, value in feeds.items()})
    assert isinstance(results, tuple)
    for result, expected in zip(results, reference(data, feeds), strict=True):
        assert result.shape == expected.shape
        assert float((result - torch.from_numpy(expected)).abs().max()) < 0.02 * float(np.abs(expected).max())
