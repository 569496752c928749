"""What is linear in secrets, and which nodes grow together: in small graphs, as inner values, and as regions of `ckks`."""

from __future__ import annotations

import pytest
import torch
from torch import fx

from hecompile.approx.inner import is_inner
from hecompile.backends.ckks.candidates import region_nodes
from hecompile.compiler import compile_model
from hecompile.ir.graph import ModelGraph
from hecompile.ir.linear_regions import LinearRegion, linear_in_secrets
from hecompile.ir.ops import OPS
from hecompile.options import CompileOptions
from tests.approx.networks import marked
from tests.backends.ckks.network import Kept, WithPolynomials, compiled
from tests.networks import Tiny, tiny_inputs


class Mixed(torch.nn.Module):
    """One value of every kind, of two secrets and what is public."""

    def forward(self, x: torch.Tensor, y: torch.Tensor, timestep: torch.Tensor) -> dict[str, torch.Tensor]:
        clock = torch.sin(timestep)
        return {
            "sum": x + y, "twice": x + x, "scaled": 3.0 * x, "clocked": x * clock, "product": x * y, "square": x * x,
            "divided": x / (clock + 2.0), "inverse": 1.0 / (2.0 + x.abs()), "moved": x.permute(0, 1, 3, 2), "turned": -x,
            "mean": x.mean(1), "largest": x.amax(1), "exponential": x.exp(), "matrix": x @ y,
        }  # fmt: skip


def test_values_are_linear_in_all_secrets_that_they_read() -> None:
    picture = torch.randn(2, 2, 4, 4)
    graph = marked(Mixed(), {"x": picture, "y": picture, "timestep": torch.tensor(3.0)})
    nodes = {node.name: node for node in graph.nodes}
    linear = {leaf for leaf, name in zip(_leaves(), graph.outputs, strict=True) if linear_in_secrets(nodes[name])}
    assert linear == {"sum", "twice", "scaled", "clocked", "divided", "moved", "turned", "mean"}


def _leaves() -> list[str]:
    return [
        "sum", "twice", "scaled", "clocked", "product", "square", "divided", "inverse", "moved", "turned", "mean", "largest",
        "exponential", "matrix",
    ]  # fmt: skip


@pytest.mark.parametrize("name", [name for name, op in OPS.items() if op.kind in ("linear", "shape", "resize")])
def test_layers_moves_and_resizings_are_linear(name: str) -> None:
    assert OPS[name].linear_in != "none"


@pytest.mark.parametrize(
    "name", [name for name, op in OPS.items() if op.kind in ("norm", "softmax", "attention", "polynomial", "cast")]
)
def test_norms_attention_and_polynomials_are_not(name: str) -> None:
    assert OPS[name].linear_in == "none"


class Ladder(torch.nn.Module):
    """Two convs in a row, a sum with what is read twice, and a way that leaves and comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Conv2d(2, 2, 3, padding=1), torch.nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        one = self.first(sample)
        two = self.second(one)
        return 2.0 * (two + torch.nn.functional.silu(one))


def ladder() -> tuple[ModelGraph, dict[str, fx.Node]]:
    graph = marked(Ladder().eval(), {"sample": torch.randn(2, 2, 4, 4)})
    return graph, {node.name: node for node in graph.nodes}


def test_a_region_takes_what_it_alone_reads() -> None:
    _, nodes = ladder()
    region = LinearRegion(linear_in_secrets)
    region.take(nodes["mul"])
    assert [node.name for node in region.nodes] == ["mul", "add", "second_conv2d"]  # the first conv is read by silu too
    made = region.made_by(lambda node: node.name == "second_conv2d")
    assert {node.name for node in made} == {"mul", "add", "second_conv2d"}
    assert region.made_by(lambda node: False) == set()


def test_readers_join_unless_what_they_read_comes_back_from_outside() -> None:
    graph, nodes = ladder()
    region = LinearRegion(linear_in_secrets)
    region.take(nodes["first_conv2d"])
    assert region.is_late(graph, nodes["add"])
    region.grow(graph, linear_in_secrets)
    assert [node.name for node in region.nodes] == ["first_conv2d", "second_conv2d"]


def test_the_pictures_that_layers_alone_make_are_inner() -> None:
    graph = marked(Tiny().eval(), tiny_inputs())
    inner = [node.name for node in graph.nodes if node.op == "call_function" and node.args and is_inner(node)]
    assert inner == ["norm_group_norm", "silu_2", "silu_3"]


ROW = ("norm_to", "norm_mul", "norm_div", "norm_floor", "norm_clamp", "norm_to_2")  # of the tables, found by the timestep
NORM = ("norm_embedding", "norm_reshape", "norm_embedding_2", "norm_reshape_2", "norm_mul_2", "norm_add")
NORM2 = ("norm2_embedding", "norm2_reshape", "norm2_embedding_2", "norm2_reshape_2", "norm2_mul", "norm2_add")


def test_ckks_takes_polynomials_with_the_layers_around_them() -> None:
    _, graph = compiled("ckks_clear")
    layers = ("polynomial", "second_conv2d", "add", *NORM2, "polynomial_2", "last_conv2d", "mul_2", "add_2")
    assert region_nodes(graph) == [("first_conv2d", *ROW, *NORM, *layers)]


class Squared(WithPolynomials):
    """The first activation's square, before the last conv."""

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        hidden = torch.nn.functional.silu(self.norm(self.first(sample)))
        return self.last(hidden * hidden) + 0.5 * sample


def test_ckks_leaves_squares_to_the_client() -> None:
    """A region is read as matrices: a square, of unit vectors, would be the value itself."""
    options, kept = CompileOptions(backend="ckks_clear", max_batch=1), Kept()
    inputs = {"sample": torch.zeros(2, 1, 4, 4), "timestep": torch.tensor(500.0)}
    passes = {"approximate-activations": [kept]}
    compile_model(Squared().eval(), None, options=options, example_inputs=inputs, extra_passes=passes)
    assert region_nodes(kept.graphs[0]) == [("first_conv2d", *ROW, *NORM, "polynomial")]
