"""A diffusers pipeline that draws labels, for any UNet that accepts `class_labels` and any scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor

__all__ = ["ClassConditionalPipeline"]


class ClassConditionalPipeline(DiffusionPipeline):  # type: ignore[misc]
    """Draws one picture per label: `pipeline([7, 3], num_inference_steps=10, generator=[...])`. With one generator per label,
    samples are independent."""

    def __init__(self, unet: torch.nn.Module, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)

    @torch.no_grad()
    def __call__(
        self,
        class_labels: Sequence[int],
        num_inference_steps: int = 10,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "pil",
        latents: torch.Tensor | None = None,
    ) -> ImagePipelineOutput:
        config = self.unet.config
        labels = torch.tensor(list(class_labels), dtype=torch.long)
        shape = (len(labels), config.in_channels, config.sample_size, config.sample_size)
        self.scheduler.set_timesteps(num_inference_steps)
        noise = randn_tensor(shape, generator=generator) if latents is None else latents
        sample = noise * self.scheduler.init_noise_sigma
        for t in self.progress_bar(self.scheduler.timesteps):
            scaled = self.scheduler.scale_model_input(sample, t)
            noise = self.unet(scaled, t, class_labels=labels).sample
            sample = self.scheduler.step(noise, t, sample).prev_sample
        images = (sample.clamp(-1, 1) / 2 + 0.5).permute(0, 2, 3, 1).numpy()  # (B, H, W, C) in [0, 1]
        return ImagePipelineOutput(images=self.numpy_to_pil(images) if output_type == "pil" else images)
