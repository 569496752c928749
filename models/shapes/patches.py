"""Takes the place of a pipeline's autoencoder: turns patches of 4x4 pixels into 48 channels, without loss and without weights."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTinyOutput
from diffusers.models.autoencoders.vae import DecoderOutput

__all__ = ["Patches"]


class Patches(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """`decode` turns latents (B, 48, 8, 8) into pictures (B, 3, 32, 32), and `encode` is its inverse."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        patch: int = 4,
        latent_channels: int = 48,
        block_out_channels: tuple[int, ...] = (1, 1, 1),
        scaling_factor: float = 1.0,
    ) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))  # pipelines read the data type and the device from it

    def encode(self, pictures: torch.Tensor) -> AutoencoderTinyOutput:
        """Turn pictures (B, 3, H, W) into `latents` (B, 3 * patch * patch, H / patch, W / patch), which image-to-image pipelines
        read."""
        return AutoencoderTinyOutput(latents=torch.nn.functional.pixel_unshuffle(pictures, self.config.patch))

    def decode(self, latents: torch.Tensor, return_dict: bool = True, generator: Any = None) -> DecoderOutput | tuple[torch.Tensor]:
        """Turn latents (B, 3 * patch * patch, h, w) into pictures (B, 3, h * patch, w * patch)."""
        pictures = torch.nn.functional.pixel_shuffle(latents, self.config.patch)
        return DecoderOutput(sample=pictures) if return_dict else (pictures,)
