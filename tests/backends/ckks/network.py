"""A network whose middle stays at the server: two convs, each followed by a norm and an activation that nothing else reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch

from hecompile.compiler import Compiled, compile_model
from hecompile.ir.graph import ModelGraph
from hecompile.options import CompileOptions
from hecompile.passes.base import Pass
from tests.artifacts import shared


class WithPolynomials(torch.nn.Module):
    """conv, (norm, silu, conv) twice, with the time added in between and a residual from the client."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first = torch.nn.Conv2d(1, 4, 3, padding=1)
        self.norm = torch.nn.GroupNorm(2, 4)
        self.second = torch.nn.Conv2d(4, 4, 3, padding=1)
        self.norm2 = torch.nn.GroupNorm(2, 4)
        self.last = torch.nn.Conv2d(4, 1, 1)
        self.time = torch.nn.Linear(2, 4)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        clock = self.time(torch.sin(timestep * torch.arange(1, 3) / 300)[None])[:, :, None, None]  # (1, 4, 1, 1), public
        hidden = torch.nn.functional.silu(self.norm(self.first(sample)))  # (B, 4, 4, 4)
        hidden = torch.nn.functional.silu(self.norm2(self.second(hidden) + clock))
        return self.last(hidden) + 0.5 * sample


@dataclass(frozen=True)
class Kept(Pass[ModelGraph, ModelGraph]):
    """Keeps the graph as it passes by."""

    graphs: list[ModelGraph] = field(default_factory=list)

    def run(self, program: ModelGraph) -> ModelGraph:
        self.graphs.append(program)
        return program


def compiled(backend: str) -> tuple[Compiled, ModelGraph]:
    """`WithPolynomials` under `ckks` or its simulation, written to a folder, and the graph that was partitioned."""
    return shared(f"with_polynomials {backend}", lambda folder: _compiled(backend, folder))


def _compiled(backend: str, output: Path) -> tuple[Compiled, ModelGraph]:
    options, kept = CompileOptions(backend=backend, max_batch=3), Kept()
    inputs = {"sample": torch.zeros(2, 1, 4, 4), "timestep": torch.tensor(500.0)}
    model = compile_model(
        WithPolynomials().eval(), output, options=options, example_inputs=inputs, extra_passes={"approximate-activations": [kept]}
    )
    return model, kept.graphs[0]


class Shown(WithPolynomials):
    """The same, and the first activation's values are read by the client too."""

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        hidden = torch.nn.functional.silu(self.norm(self.first(sample)))
        other = torch.nn.functional.silu(self.norm2(self.second(hidden)))
        return self.last(other) + 0.5 * sample, torch.softmax(hidden, 1)
