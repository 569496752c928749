"""Class-conditional diffusion on scikit-learn's 8x8 digits: small enough to run encrypted within a second, and its pictures can be
checked.

Samples are (B, 1, 8, 8) in [-1, 1], labels are 0 to 9. The unconditional model shares the data and the noise schedule.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diffusers import UNet2DModel

__all__ = ["CLASSES", "FOLDER", "SCHEDULER", "build", "load", "load_unconditional"]

CLASSES = 10
FOLDER = Path(__file__).parent

# keyword arguments for any scheduler of diffusers that samples from these models: `DDIMScheduler(**SCHEDULER)`
SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "epsilon",
}


def build(conditional: bool = True) -> UNet2DModel:
    """Return the untrained network: 16 and 32 channels (8 and 16 without labels), two resolutions, about 160k parameters with
    labels."""
    from diffusers import UNet2DModel

    channels = (16, 32) if conditional else (8, 16)
    return UNet2DModel(
        sample_size=8,
        in_channels=1,
        out_channels=1,
        block_out_channels=channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        add_attention=False,
        num_class_embeds=CLASSES if conditional else None,
    )


def load() -> UNet2DModel:
    """Return the trained class-conditional model in evaluation mode."""
    return _load(conditional=True, weights="model.safetensors")


def load_unconditional() -> UNet2DModel:
    """Return the trained unconditional model in evaluation mode; it works in `DDPMPipeline` and `DDIMPipeline`."""
    return _load(conditional=False, weights="unconditional.safetensors")


def _load(conditional: bool, weights: str) -> UNet2DModel:
    from safetensors.torch import load_file

    unet = build(conditional)
    unet.load_state_dict(load_file(FOLDER / weights))
    return unet.eval()
