"""Small networks that tests compile."""

from __future__ import annotations

import torch


class Tiny(torch.nn.Module):
    """Every shape of linear work in a few lines: conv, strided conv, folded upsampling, stacked projections, a residual."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Conv2d(2, 6, 3, padding=1)
        self.norm = torch.nn.GroupNorm(2, 6)
        self.down = torch.nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.up = torch.nn.Conv2d(8, 6, 3, padding=1)
        self.time = torch.nn.Linear(4, 6)
        self.label = torch.nn.Linear(5, 6)
        self.gate = torch.nn.Linear(5, 6)
        self.last = torch.nn.Conv2d(6, 2, 1)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        clock = self.time(torch.sin(timestep * torch.arange(1, 5) / 100)[None])  # (1, 6), public
        hidden = torch.nn.functional.silu(self.norm(self.first(sample)))  # (B, 6, 4, 4)
        hidden = hidden + (clock + self.label(condition) * self.gate(condition).sigmoid())[:, :, None, None]
        small = torch.nn.functional.silu(self.down(hidden))  # (B, 8, 2, 2)
        large = self.up(torch.nn.functional.interpolate(small, scale_factor=2.0, mode="nearest"))  # (B, 6, 4, 4)
        return self.last(torch.nn.functional.silu(large) + hidden)


def tiny_inputs(batch: int = 2) -> dict[str, torch.Tensor]:
    """Seeded arguments for `Tiny`."""
    generator = torch.Generator().manual_seed(1)
    return {
        "sample": torch.randn(batch, 2, 4, 4, generator=generator),
        "timestep": torch.tensor(31.0),
        "condition": torch.randn(batch, 5, generator=generator),
    }


class Long(torch.nn.Module):
    """Layers side by side, on one value, whose weights are all as large as int8 weights can be."""

    def __init__(self, *layers: torch.nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.ModuleList(layers)
        for parameter in self.parameters():
            torch.nn.init.uniform_(parameter, -0.01, 0.01)
            if parameter.dim() > 1:
                parameter.data.copy_(parameter.sign() / 100)

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        return torch.cat([layer(sample) for layer in self.layers], dim=1)
