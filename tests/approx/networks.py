"""Networks for approximations, as graphs whose secrets are marked."""

from __future__ import annotations

from typing import Any

import torch

from hecompile.calibration import Calibration, Call
from hecompile.frontend.sources import load_source
from hecompile.ir.graph import ModelGraph
from hecompile.passes.canonicalize import Canonicalize
from hecompile.passes.mark_secrets import MarkSecrets
from hecompile.passes.trace import Trace
from tests.networks import Tiny, tiny_inputs

__all__ = ["Mixer", "Only", "marked", "mixer_calls", "tiny"]


class Mixer(torch.nn.Module):
    """LayerNorm, GELU, tanh, an inverse square root: a network without a timestep."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.inner, self.outer = torch.nn.LayerNorm(8), torch.nn.Linear(8, 16), torch.nn.Linear(16, 8)
        self.last = torch.nn.LayerNorm(8)
        self.read = torch.nn.Linear(8, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.outer(torch.nn.functional.gelu(self.inner(self.norm(tokens))))  # (B, T, 8)
        scaled = tokens * torch.rsqrt(tokens.square().mean(-1, keepdim=True) + 0.5)
        return self.read(self.last(torch.tanh(scaled)))


class Only(torch.nn.Module):
    """One layer."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def marked(source: Any, inputs: Any = None) -> ModelGraph:
    """A source after mark-secrets."""
    program: Any = load_source(source, inputs)
    for step in (Trace(), Canonicalize(), MarkSecrets("strict")):
        program = step.run(program)
    return program


def tiny() -> ModelGraph:
    return marked(Tiny().eval(), tiny_inputs())


def mixer_calls(seed: int, calls: int = 3) -> Calibration:
    generator = torch.Generator().manual_seed(seed)
    return Calibration(tuple(Call({"tokens": torch.randn(20, 5, 8, generator=generator).numpy()}) for _ in range(calls)))
