"""Layers too long for any ring run as several, exactly; what a ring carries is left alone, and what none can is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import hecompile
from hecompile.artifact import read_manifest
from hecompile.backends.bfv.carried import carried
from hecompile.compiler import compile_model
from hecompile.errors import CompileError
from hecompile.ir.divisions import divisions_of
from hecompile.ir.graph import ModelGraph, info
from hecompile.ir.layer_groups import layer_groups
from hecompile.ir.layers import secret_layers
from hecompile.ir.ops import REVEAL
from hecompile.ir.printing import print_graph
from hecompile.machine import Machine
from hecompile.options import CompileOptions
from hecompile.passes.divide_layers import DivideLayers
from hecompile.planner.plan import predict_graph
from tests.golden_files import check
from tests.networks import Long, Tiny, tiny_inputs


class Shown(torch.nn.Module):
    """A long layer of a value that a policy may reveal in part."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = torch.nn.Conv2d(2, 2560, 1), Long(torch.nn.Conv2d(2560, 2, 3, padding=1))
        self.loud = torch.nn.Parameter(torch.linspace(0.0, 1.0, 2560)[:, None, None])

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.last(torch.nn.functional.silu(self.first(sample)) * self.loud * timestep)
        return hidden


def conv() -> Long:
    return Long(torch.nn.Conv2d(2560, 2, 3, padding=1))


def upsampled() -> Long:
    """Taps meet, so that rows have fewer weights, but they are not of one size any more."""
    conv = torch.nn.Conv2d(12800, 1, 3, padding=1)
    long = Long(torch.nn.Sequential(torch.nn.Upsample(scale_factor=2), conv))
    torch.nn.init.constant_(conv.weight, 0.001)
    return long


IMAGE, WIDE, TOKENS = (2560, 2, 2), (5120, 2, 2), (2, 24000)
CASES = {
    "conv": (conv, IMAGE, 2),
    "groups": (lambda: Long(torch.nn.Conv2d(5120, 2, 3, padding=1, groups=2)), WIDE, 2),
    "strided": (lambda: Long(torch.nn.Conv2d(2560, 2, 3, stride=2, padding=1, bias=False)), IMAGE, 2),
    "transposed": (lambda: Long(torch.nn.ConvTranspose2d(5120, 2, 4, stride=2, padding=1)), WIDE, 2),
    "upsampled": (upsampled, (12800, 2, 2), 2),
    "in four": (lambda: Long(torch.nn.Linear(48000, 2)), (2, 48000), 4),
    "one long, one not": (lambda: Long(torch.nn.Conv2d(2560, 2, 3, padding=1), torch.nn.Conv2d(2560, 3, 1)), IMAGE, 2),
}


def signal(shape: tuple[int, ...], batch: int = 2) -> dict[str, torch.Tensor]:
    return {"sample": torch.randn(batch, *shape, generator=torch.Generator().manual_seed(1))}


def divided(module: torch.nn.Module, shape: tuple[int, ...], until: str = "divide-layers") -> ModelGraph:
    """The graph after the pass, or another."""
    graph = compile_model(module.eval(), example_inputs=signal(shape), until=until).program
    assert isinstance(graph, ModelGraph)
    return graph


def parts_of(graph: ModelGraph) -> list[tuple[str, ...]]:
    """The names of the layers that share what is sent, for each thing that is sent."""
    return [group.names for group in layer_groups(graph)]


@pytest.mark.parametrize(("make", "shape", "count"), CASES.values(), ids=list(CASES))
def test_as_few_parts_as_are_carried(make: Callable[[], Long], shape: tuple[int, ...], count: int) -> None:
    before = divided(make(), shape, "approximate-activations")
    after = DivideLayers(("bfv",), 128).run(before)
    assert [carried(group, 128) for group in layer_groups(before)].count(False) == 1
    assert len(layer_groups(after)) == len(layer_groups(before)) + count - 1
    assert all(carried(group, 128) for group in layer_groups(after))
    assert after.outputs == before.outputs


@pytest.mark.parametrize(("make", "shape", "count"), CASES.values(), ids=list(CASES))
def test_encrypted_is_clear_bit_for_bit_and_near_the_module(
    make: Callable[[], Long], shape: tuple[int, ...], count: int, tmp_path: Path
) -> None:
    results = {}
    for backend, policy in (("bfv", "strict"), ("clear", "simulation")):
        options = CompileOptions(backend=backend, max_batch=2)
        compile_model(make().eval(), tmp_path / backend, options=options, example_inputs=signal(shape))
        results[backend] = hecompile.load(tmp_path / backend, policy=policy)(**signal(shape))
    assert results["bfv"].numpy().tobytes() == results["clear"].numpy().tobytes()
    with torch.no_grad():
        exact = make().eval()(**signal(shape))
    assert (results["bfv"] - exact).square().mean() < 1e-4 * exact.square().mean()


def test_the_graph_after_the_pass() -> None:
    module = Long(torch.nn.Conv2d(5120, 2, 3, padding=1, groups=2), torch.nn.ConvTranspose2d(5120, 2, 1))
    check("divide-layers/a long convolution in groups beside a short one", print_graph(divided(module, WIDE)))


def test_layers_that_are_sent_together_are_proved_and_divided_together() -> None:
    graph = divided(Long(torch.nn.Linear(24000, 2), torch.nn.Linear(24000, 3)), TOKENS[1:])
    check("divide-layers/long layers that share what is sent", print_graph(graph))
    names = parts_of(graph)
    assert [len(part) for part in names] == [2, 2]
    assert len({name for part in names for name in part}) == 4


def test_what_a_ring_carries_is_not_touched() -> None:
    graph = compile_model(Tiny().eval(), example_inputs=tiny_inputs(), until="approximate-activations").program
    assert DivideLayers(("bfv",), 128).run(graph) is graph  # type: ignore[arg-type]
    bell = conv()
    torch.nn.init.normal_(bell.layers[0].get_parameter("weight"), std=0.01, generator=torch.Generator().manual_seed(0))
    before = divided(bell, IMAGE, "approximate-activations")
    assert DivideLayers(("bfv",), 128).run(before) is before  # the largest weights would not be carried, these are


def test_backends_that_say_nothing_of_it_divide_nothing() -> None:
    before = divided(conv(), IMAGE, "approximate-activations")
    assert DivideLayers(("ckks",), 128).run(before) is before
    assert DivideLayers(("bfv", "ckks"), 128).run(before) is before


def test_a_model_without_weights_is_not_touched() -> None:
    with torch.device("meta"):
        module = conv().eval()
    graph = compile_model(module, example_inputs=signal(IMAGE), until="divide-layers").program
    assert isinstance(graph, ModelGraph)
    assert graph.is_meta
    assert len(layer_groups(graph)) == 1


@pytest.mark.parametrize("backend", ["bfv", "clear"])
def test_a_layer_whose_single_channels_are_too_long_is_refused_by_name(backend: str) -> None:
    module = Long(torch.nn.Conv2d(2, 1, 160, stride=2))
    with pytest.raises(CompileError, match=r"no parameters carry layers_0_conv2d: sum of \|weights\| 6502400"):
        compile_model(module.eval(), options=CompileOptions(backend=backend), example_inputs=signal((2, 160, 160)))


def test_plans_count_the_parts_as_layers_of_one_request() -> None:
    prediction = predict_graph(divided(conv(), IMAGE, "check-secrecy"), Machine())
    assert prediction.total.rounds == 1
    assert [region.layers for region in prediction.regions] == [2]
    assert prediction.worst_case is None


def test_of_a_divided_layer_nothing_is_revealed(tmp_path: Path) -> None:
    options = CompileOptions(policy="min-distortion", budget=0.02, importance="magnitude", max_batch=1)
    call = signal((2, 4, 4)) | {"timestep": torch.tensor(1.0)}
    graphs = []
    for until in ("approximate-activations", "divide-layers"):
        graphs.append(compile_model(Shown().eval(), options=options, example_inputs=call, until=until).program)
    before, after = graphs
    assert isinstance(before, ModelGraph)
    assert isinstance(after, ModelGraph)
    (long,) = [group for group in layer_groups(before) if group.split.reveals]
    assert len(long.split.revealed) > 100
    assert len(layer_groups(after)) == len(layer_groups(before)) + 1
    assert not [group for group in layer_groups(after) if group.split.reveals]
    assert not [node for node in after.nodes if info(node).coo is not None or str(node.target) == REVEAL]
    compile_model(Shown().eval(), tmp_path / "shown", options=options, example_inputs=call)
    assert read_manifest(tmp_path / "shown").reveals == ()


@pytest.mark.parametrize(("channels", "groups", "counts"), [(6, 1, [2, 4, 6]), (8, 2, [2, 4]), (2, 1, [2]), (3, 3, [])])
def test_divisions_hold_every_channel_once_and_of_every_group_as_many(channels: int, groups: int, counts: list[int]) -> None:
    graph = divided(Long(torch.nn.Conv2d(channels, groups, 1, groups=groups)), (channels, 2, 2))
    (layer,) = secret_layers(graph)
    divisions = list(divisions_of(graph, layer.linear_op))
    assert [len(division.parts) for division in divisions] == counts
    for division in divisions:
        assert sorted(channel for part in division.parts for channel in part) == list(range(channels))
        for part in division.parts:
            of_group = [sum(channel * groups // channels == group for channel in part) for group in range(groups)]
            assert len(set(of_group)) == 1
