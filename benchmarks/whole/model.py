"""A UNet of Stable Diffusion's shape with seeded random weights, as a folder of diffusers with float16 weights.

`python -m benchmarks.whole.model FOLDER` writes it; with `--smoke` a small one of the same kinds of blocks.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

from hecompile.models.published import SHAPES

__all__ = ["Call", "call", "settings"]

SMALL: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "cross_attention_dim": 32,
}


@dataclass(frozen=True)
class Call:
    """One call: latents (B, 4, H, W) and prompts (B, 77, C), and the timesteps of a run of such calls."""

    latents: torch.Tensor
    prompts: torch.Tensor
    timesteps: tuple[int, ...] = (900, 800, 700, 600, 500, 400)


def settings(smoke: bool) -> dict[str, Any]:
    """The configuration of the UNet."""
    return SHAPES["sd15-shaped"].config | (SMALL if smoke else {})


def call(smoke: bool, batch: int) -> Call:
    """The same numbers in every process."""
    config, generator = settings(smoke), torch.Generator().manual_seed(1)
    size = config["sample_size"]
    latents = torch.randn((batch, 4, size, size), generator=generator)
    return Call(latents, torch.randn((batch, 77, config["cross_attention_dim"]), generator=generator))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    UNet2DConditionModel(**settings(options.smoke)).half().save_pretrained(options.folder / "unet")
    DDIMScheduler().save_pretrained(options.folder / "scheduler")


if __name__ == "__main__":
    main()
