"""UNets of Stable Diffusion's shapes without their weights: on the meta device, for plans."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["SHAPES", "build_shape"]

_SD: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}
SHAPES: dict[str, dict[str, Any]] = {
    "sd15-shaped": {**_SD, "attention_head_dim": 8, "cross_attention_dim": 768},
    "sd21-shaped": {
        **_SD,
        "sample_size": 96,
        "attention_head_dim": (5, 10, 20, 20),
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
    },
    "sdxl-shaped": {
        "sample_size": 128,
        "in_channels": 4,
        "out_channels": 4,
        "layers_per_block": 2,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}


def build_shape(name: str) -> torch.nn.Module:
    """A UNet of this shape whose parameters have no data."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        model: torch.nn.Module = UNet2DConditionModel(**SHAPES[name])
    return model.eval()
