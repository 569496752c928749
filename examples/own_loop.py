"""Sampling by hand, without a pipeline: Heun's second-order steps, deterministic, with the encrypted UNet."""

from __future__ import annotations

from itertools import pairwise

import torch

import hecompile
from hecompile.models.digits import SCHEDULER


def signal_levels() -> torch.Tensor:
    """abar_t of the schedule that the model was trained with: (1000,)."""
    from diffusers import DDIMScheduler

    levels: torch.Tensor = DDIMScheduler(**SCHEDULER).alphas_cumprod
    return levels


@torch.no_grad()
def draw(unet: torch.nn.Module, label: int, steps: int, seed: int = 0) -> torch.Tensor:
    """One digit, (1, 1, 8, 8) in [-1, 1]."""
    abar = signal_levels()
    times = torch.linspace(900, 20, steps + 1)
    sample = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    for now, then in pairwise(times):
        a, b = abar[int(now)], abar[int(then)]
        first = unet(sample, now, class_labels=torch.tensor([label])).sample
        clean = (sample - (1 - a).sqrt() * first) / a.sqrt()
        guess = b.sqrt() * clean.clamp(-1, 1) + (1 - b).sqrt() * first
        second = unet(guess, then, class_labels=torch.tensor([label])).sample
        clean = (sample - (1 - a).sqrt() * (first + second) / 2) / a.sqrt()
        sample = b.sqrt() * clean.clamp(-1, 1) + (1 - b).sqrt() * (first + second) / 2
    return clean.clamp(-1, 1)


if __name__ == "__main__":
    hecompile.compile("digits", "out/digits.he")
    print((draw(hecompile.load("out/digits.he"), label=3, steps=5)[0, 0] > 0).int())
