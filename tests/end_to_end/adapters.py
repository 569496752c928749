"""What pipelines add to a UNet before it is compiled: low-rank adapters, and what reads a picture for an IP-Adapter."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig
from PIL import Image
from transformers import CLIPImageProcessorPil

from tests.end_to_end.pipelines import WIDTH, image_encoder, picture, pipeline

__all__ = ["embeddings", "image", "low_rank", "picture_reader", "with_image_encoder"]

ADAPTED = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "conv1"]


def low_rank(pipe: Any, name: str = "default", seed: int = 9) -> None:
    """Load a LoRA of random weights, none of them zero, into the pipeline's UNet."""
    torch.manual_seed(seed)
    pipe.unet.add_adapter(LoraConfig(r=4, lora_alpha=16, target_modules=ADAPTED, init_lora_weights=False), adapter_name=name)


def picture_reader() -> dict[str, Any]:
    """The parts of a pipeline that read pictures for an IP-Adapter."""
    return {"image_encoder": image_encoder(), "feature_extractor": CLIPImageProcessorPil(size=32, crop_size=32)}


def with_image_encoder(unet: Any) -> Any:
    """Stable Diffusion's pipeline with what an IP-Adapter reads pictures by."""
    return pipeline(unet, **picture_reader())


def image(seed: int) -> Image.Image:
    """A picture of 32x32 as pipelines take them."""
    return Image.fromarray((picture(seed, 32)[0].permute(1, 2, 0) * 255).byte().numpy())


def embeddings(seed: int) -> torch.Tensor:
    """What an IP-Adapter takes in place of a picture, without and with guidance: (2, 1, 32)."""
    return torch.randn(2, 1, WIDTH, generator=torch.Generator().manual_seed(seed))
