"""Everything that `verify_graph` and `compare` promise to catch, one broken graph each; all breaches are named at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import fx

from hecompile.errors import InternalError
from hecompile.frontend.sources import load_source
from hecompile.ir.graph import Batch, ModelGraph, copy_module, info, set_info
from hecompile.ir.verify import compare, example_inputs, run, verify_graph
from hecompile.passes.canonicalize import Canonicalize
from hecompile.passes.trace import Trace
from tests.networks import Tiny, tiny_inputs


@pytest.fixture(scope="module")
def original() -> ModelGraph:
    return Canonicalize().run(Trace().run(load_source(Tiny().eval(), tiny_inputs())))


@pytest.fixture
def graph(original: ModelGraph) -> ModelGraph:
    """A copy that a test may break."""
    return replace(original, graph_module=copy_module(original.graph_module))


def node_of(graph: ModelGraph, name: str) -> fx.Node:
    return next(node for node in graph.nodes if node.name == name)


def drop_a_record(graph: ModelGraph) -> ModelGraph:
    del node_of(graph, "last_conv2d").meta["hecompile"]
    return graph


def drop_a_record_that_others_read(graph: ModelGraph) -> ModelGraph:
    del node_of(graph, "first_conv2d").meta["hecompile"]
    return graph


def hang_something_else(graph: ModelGraph) -> ModelGraph:
    node_of(graph, "first_conv2d").meta["hecompile"] = {"shape": ()}
    return graph


def leave_the_table(graph: ModelGraph) -> ModelGraph:
    node_of(graph, "down_conv2d").target = torch.ops.aten.cumsum.default
    return graph


def compute_a_weight(graph: ModelGraph) -> ModelGraph:
    node = node_of(graph, "label_linear")
    node.args = (node.args[0], node.args[0], *node.args[2:])
    return graph


def compute_a_bias(graph: ModelGraph) -> ModelGraph:
    node = node_of(graph, "label_linear")
    node.args = (*node.args[:2], node.args[0])
    return graph


def call_a_secret_public(graph: ModelGraph) -> ModelGraph:
    return graph.with_infos(lambda node, record: replace(record, secret=node.name == "sample"))


def read_before_it_is_there(graph: ModelGraph) -> ModelGraph:
    node_of(graph, "last_conv2d").append(node_of(graph, "down_conv2d"))
    return graph


def rename_an_input(graph: ModelGraph) -> ModelGraph:
    return replace(graph, inputs=(replace(graph.inputs[0], name="picture"), *graph.inputs[1:]))


def swap_inputs(graph: ModelGraph) -> ModelGraph:
    return replace(graph, inputs=graph.inputs[::-1])


def misstate_a_shape(graph: ModelGraph) -> ModelGraph:
    return replace(graph, inputs=(replace(graph.inputs[0], shape=(Batch(2), 2, 4, 4)), *graph.inputs[1:]))


def misstate_a_dtype(graph: ModelGraph) -> ModelGraph:
    return replace(graph, inputs=(replace(graph.inputs[0], dtype="int64"), *graph.inputs[1:]))


def name_no_output(graph: ModelGraph) -> ModelGraph:
    return replace(graph, outputs=("nothing",))


def name_another_output(graph: ModelGraph) -> ModelGraph:
    return replace(graph, outputs=("down_conv2d",))


BREACHES: list[tuple[Callable[[ModelGraph], ModelGraph], str]] = [
    (drop_a_record, "%last_conv2d has no record"),
    (drop_a_record_that_others_read, "%first_conv2d has no record"),
    (leave_the_table, "%down_conv2d calls aten.cumsum.default, which is not in the op table"),
    (compute_a_weight, "%label_linear has weights that are not constant"),
    (compute_a_bias, "%label_linear has weights that are not constant"),
    (call_a_secret_public, r"%first_conv2d is public but reads secret values: \['sample'\]"),
    (read_before_it_is_there, "which come later"),
    (rename_an_input, "the signature says .'picture'"),
    (swap_inputs, "the signature says .'condition'"),
    (misstate_a_shape, "input %sample is"),
    (misstate_a_dtype, "input %sample is"),
    (name_no_output, "the signature says .'nothing'"),
    (name_another_output, "the signature says .'down_conv2d'"),
]


@pytest.mark.parametrize(("break_it", "message"), BREACHES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_breach_is_caught(graph: ModelGraph, break_it: Callable[[ModelGraph], ModelGraph], message: str) -> None:
    verify_graph(graph)
    with pytest.raises(InternalError, match=message):
        verify_graph(break_it(graph))


def test_all_breaches_are_named_at_once(graph: ModelGraph) -> None:
    with pytest.raises(InternalError) as caught:
        verify_graph(leave_the_table(compute_a_weight(name_no_output(graph))))
    assert str(caught.value).count(";") == 2


def test_a_record_of_another_type_is_no_record(graph: ModelGraph) -> None:
    hang_something_else(graph)
    with pytest.raises(KeyError, match="not a NodeInfo"):
        info(node_of(graph, "first_conv2d"))


def test_a_traced_graph_may_leave_the_table(graph: ModelGraph) -> None:
    verify_graph(leave_the_table(graph), canonical=False)


def test_only_the_shape_of_a_secret_may_be_read_by_what_is_public(graph: ModelGraph) -> None:
    node = node_of(graph, "last_conv2d")
    with graph.graph_module.graph.inserting_after(node):
        like = graph.graph_module.graph.call_function(torch.ops.aten.expand_as.default, (node, node))
    set_info(like, replace(info(node), secret=False))
    secret = graph.with_infos(lambda other, record: replace(record, secret=other.name != like.name and other.op != "get_attr"))
    verify_graph(secret)


def test_example_inputs_fit_the_signature_and_are_the_same_every_time(graph: ModelGraph) -> None:
    first, second = example_inputs(graph), example_inputs(graph)
    assert {name: value.shape for name, value in first.items()} == {"sample": (2, 2, 4, 4), "timestep": (), "condition": (2, 5)}
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert compare(run(graph, first), run(graph, second), 0.0, "nothing") == 0.0


@pytest.mark.parametrize("wrong", [1.1, float("nan"), float("inf")])
def test_a_result_that_changed_is_caught(wrong: float) -> None:
    before = [np.array([1.0, -2.0])]
    assert compare(before, [np.array([1.0, -2.1])], 0.06, "rounding") == pytest.approx(0.05)
    with pytest.raises(InternalError, match="rounding changed the result"):
        compare(before, [np.array([wrong, -2.0])], 0.04, "rounding")


def test_a_result_of_another_shape_is_caught() -> None:
    with pytest.raises(InternalError, match="shape from"):
        compare([np.ones((1, 2))], [np.ones(2)], 1.0, "a pass")
