"""Denoisers with the shapes of well-known models, but without weights: on torch's meta device, for `hecompile plan`.

The configurations are those in the diffusers folders of the published models.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["SHAPES", "Shape", "build_shape"]


@dataclass(frozen=True)
class Shape:
    """A class of diffusers with the configuration of a published model."""

    kind: str  # name of the class
    model: str  # name of the published model
    config: dict[str, Any]


_SD: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}
_SD15: dict[str, Any] = {**_SD, "attention_head_dim": 8, "cross_attention_dim": 768}
_SD21: dict[str, Any] = {
    **_SD,
    "sample_size": 96,
    "attention_head_dim": (5, 10, 20, 20),
    "cross_attention_dim": 1024,
    "use_linear_projection": True,
}
_SDXL: dict[str, Any] = {
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
}
_DIT: dict[str, Any] = {
    "sample_size": 32,
    "in_channels": 4,
    "out_channels": 8,
    "num_layers": 28,
    "num_attention_heads": 16,
    "attention_head_dim": 72,
    "patch_size": 2,
}
_PIXART: dict[str, Any] = {**_DIT, "sample_size": 128, "cross_attention_dim": 1152, "caption_channels": 4096}
_SD3: dict[str, Any] = {
    "sample_size": 128,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 24,
    "num_attention_heads": 24,
    "attention_head_dim": 64,
    "caption_projection_dim": 1536,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 2048,
    "patch_size": 2,
    "pos_embed_max_size": 192,
}
_FLUX: dict[str, Any] = {
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "num_attention_heads": 24,
    "attention_head_dim": 128,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
}
SHAPES: dict[str, Shape] = {
    "sd15-shaped": Shape("UNet2DConditionModel", "Stable Diffusion 1.5", _SD15),
    "sd21-shaped": Shape("UNet2DConditionModel", "Stable Diffusion 2.1", _SD21),
    "sdxl-shaped": Shape("UNet2DConditionModel", "Stable Diffusion XL", _SDXL),
    "dit-shaped": Shape("DiTTransformer2DModel", "DiT-XL/2 at 256 pixels", _DIT),
    "pixart-shaped": Shape("PixArtTransformer2DModel", "PixArt-alpha XL/2 at 1024 pixels", _PIXART),
    "sd3-shaped": Shape("SD3Transformer2DModel", "Stable Diffusion 3 medium at 1024 pixels", _SD3),
    "flux-shaped": Shape("FluxTransformer2DModel", "Flux.1 dev at 1024 pixels", _FLUX),
}


def build_shape(name: str) -> torch.nn.Module:
    """Return a denoiser of this shape in evaluation mode, whose parameters hold no data."""
    import diffusers
    import torch

    shape = SHAPES[name]
    with torch.device("meta"):
        model: torch.nn.Module = getattr(diffusers, shape.kind)(**shape.config)
    return model.eval()
