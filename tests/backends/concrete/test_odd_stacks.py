"""Networks that stacks may break on: every channel is right, in one circuit or in several."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import Conv2d, Linear

import hecompile
from hecompile.backends.concrete.stacks.candidates import stack_candidates
from hecompile.backends.concrete.stacks.distortion import MOST_ERROR
from hecompile.compiler import compile_model
from hecompile.options import CompileOptions
from tests.backends.concrete.stack_networks import Form, Layers, Net, conv, marked
from tests.programs import program_of

ODD: dict[str, tuple[Callable[[], Layers], Form]] = {
    "two at one depth": (
        lambda: {"a": conv(2, 2), "b": conv(2, 2), "c": conv(2, 2), "d": conv(2, 2)},
        lambda m, x: m.b(m.a(x)) + torch.tanh(1e-3 * m.d(m.c(1000 * torch.tanh(x)))),
    ),
    "a channel of zeros in a sum": (lambda: {"a": without(conv(2, 3), 0), "b": conv(2, 3, 1)}, lambda m, x: m.a(x) + m.b(x)),
    "a channel of zeros in a row": (lambda: {"a": without(conv(2, 3), 0), "b": conv(3, 2)}, lambda m, x: m.b(m.a(x))),
    "a layer of zeros beside": (lambda: {"a": conv(2, 2), "b": without(conv(2, 2, 1))}, lambda m, x: m.a(x) + m.b(x)),
    "a layer of zeros after": (lambda: {"a": Linear(4, 4), "b": without(Linear(4, 3))}, lambda m, x: m.b(m.a(x[:, 0]))),
    "a constant that widens": (lambda: {"a": conv(2, 1), "b": conv(3, 2)}, lambda m, x: m.b(m.a(x) + torch.ones(1, 3, 1, 1))),
    "a vector": (
        lambda: {"a": Linear(4, 1), "b": Linear(4, 1)}, lambda m, x: (m.a(x[:, 0, 0]) + m.b(x[:, 0, 0])).squeeze(-1),
    ),
    "vectors": (
        lambda: {"a": Linear(4, 1), "b": Linear(4, 1)}, lambda m, x: m.a(x[:, 0, 0]).squeeze(-1) + m.b(x[:, 0, 0]).squeeze(-1),
    ),
    "small units over the picture": (
        lambda: {"a": scaled(Linear(4, 64, bias=False), 1e-4), "b": conv(1, 2)},
        lambda m, x: 1e4 * (m.b(m.a(x[:, 0, 0]).reshape(-1, 1, 8, 8)) - m.b.bias[:, None, None]),
    ),
    "far apart": (lambda: {"a": scaled(conv(2, 2), 1e-20), "b": conv(2, 2)}, lambda m, x: m.a(x) + m.b(x)),
    "more padding than kernel": (lambda: {"a": Conv2d(2, 2, 3, padding=3), "b": conv(2, 2)}, lambda m, x: m.b(m.a(x))),
}  # fmt: skip


def scaled(layer: torch.nn.Conv2d | torch.nn.Linear, factor: float) -> torch.nn.Module:
    """With smaller weights."""
    with torch.no_grad():
        layer.weight.mul_(factor)
    return layer


def without(layer: torch.nn.Conv2d | torch.nn.Linear, channel: int | None = None) -> torch.nn.Module:
    """With zeros for the weights of a channel, or of all."""
    with torch.no_grad():
        layer.weight[slice(None) if channel is None else channel] = 0.0
    return layer


@pytest.mark.fhe
@pytest.mark.slow
@pytest.mark.parametrize("name", ODD)
def test_odd_networks_run_in_stacks_or_apart(name: str, tmp_path: Path) -> None:
    """Every channel is right; what no stack carries has a circuit per layer."""
    layers, form = ODD[name]
    net, value = Net("in a row"), torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    for key, layer in layers().items():
        setattr(net, key, layer)
    net.form = form
    options = CompileOptions(backend="concrete", max_batch=2)
    compile_model(net.eval(), tmp_path / "a", options=options, example_inputs={"sample": value})
    with torch.no_grad():
        want = net(value)
    error = (hecompile.load(tmp_path / "a")(value) - want).reshape(2, want[0].shape[0] if want.ndim > 1 else 1, -1)
    deviation = want.reshape(error.shape).std(dim=(0, 2))
    assert (error.square().mean(dim=(0, 2)).sqrt() <= MOST_ERROR * deviation + 1e-6).all()


class Unstepped(torch.nn.Module):
    """Has a sampler's inputs, and an output that no sampler can step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = conv(2, 2), conv(2, 3)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.b(torch.tanh(sample) + self.a(sample)) * torch.sin(timestep)
        return result


@pytest.mark.slow
def test_without_a_sampler_there_are_no_stacks_of_several_inputs() -> None:
    example = {"sample": torch.zeros(2, 2, 4, 4), "timestep": torch.tensor(31.0)}
    assert stack_candidates(marked(Unstepped(), example), "concrete_stacks") == []


@pytest.mark.fhe
def test_what_is_priced_fits_with_the_least_probability_of_errors(tmp_path: Path) -> None:
    """Three in a row fit at 2^-40 only: two of them are a stack."""
    net, value = Net("in a row"), torch.randn(2, 2, 2, 2, generator=torch.Generator().manual_seed(0))
    net.a, net.b, net.c = conv(2, 4, 1), conv(4, 4, 1), conv(4, 2, 1)
    net.form = lambda m, x: m.c(m.b(m.a(x)))
    options = CompileOptions(backend="concrete", max_batch=2, p_error=2.0**-128)
    compiled = compile_model(net.eval(), tmp_path / "a", options=options, example_inputs={"sample": value})
    assert all(region.lowered is not None for region in program_of(compiled).calls.values())
    with torch.no_grad():
        assert (hecompile.load(tmp_path / "a")(value) - net(value)).abs().max() < 0.05 * net(value).abs().max()
