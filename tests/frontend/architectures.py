"""Tiny UNets of diffusers, one per block type and per option that changes the graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["ARCHITECTURES", "NOT_IN_UNETS", "QUICK", "build", "perturbed"]

WIDTHS = (8, 16)
NOT_IN_UNETS = {"DownEncoderBlock2D", "AttnDownEncoderBlock2D", "UpDecoderBlock2D", "AttnUpDecoderBlock2D"}  # of VAEs: no skips
Config = Mapping[str, Any]


def _plain(down: str = "DownBlock2D", up: str = "UpBlock2D", **changes: Any) -> Config:
    """A `UNet2DModel` whose first level is a pair of blocks under test."""
    base = {
        "sample_size": 8, "in_channels": 3, "out_channels": 3, "block_out_channels": WIDTHS, "layers_per_block": 1,
        "norm_num_groups": 4, "attention_head_dim": 4, "add_attention": False,
        "down_block_types": (down, "DownBlock2D"), "up_block_types": ("UpBlock2D", up),
    }  # fmt: skip
    return {"kind": "UNet2DModel", **base, **changes}


def _condition(
    down: str = "CrossAttnDownBlock2D", up: str = "CrossAttnUpBlock2D", mid: str | None = "UNetMidBlock2DCrossAttn", **changes: Any
) -> Config:
    """A `UNet2DConditionModel` whose first level is a pair of blocks under test."""
    base = {
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "block_out_channels": WIDTHS, "layers_per_block": 1,
        "norm_num_groups": 4, "attention_head_dim": 4, "cross_attention_dim": 12, "mid_block_type": mid,
        "down_block_types": (down, "DownBlock2D"), "up_block_types": ("UpBlock2D", up),
    }  # fmt: skip
    return {"kind": "UNet2DConditionModel", **base, **changes}


def _deepfloyd(width: int, **changes: Any) -> Config:
    """Simple cross attention on the second level only, where the prompt is as wide as the level."""
    return _condition(
        mid="UNetMidBlock2DSimpleCrossAttn", block_out_channels=(8, width), cross_attention_dim=width,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"), **changes,
    )  # fmt: skip


def _katherine(down: str, up: str, **changes: Any) -> Config:
    """The latent upscaler's blocks; their groups are of 32 channels."""
    base = {
        "block_out_channels": (32, 32), "down_block_types": (down, down), "up_block_types": (up, up), "mid_block_type": None,
        "act_fn": "gelu", "conv_in_kernel": 1, "conv_out_kernel": 1, "norm_num_groups": None, "attention_head_dim": 16,
        "resnet_time_scale_shift": "scale_shift", "time_embedding_type": "fourier", "timestep_post_act": "gelu",
    }  # fmt: skip
    return _condition(**{**base, **changes})


ARCHITECTURES: dict[str, Config] = {
    "plain": _plain(),
    "attention": _plain("AttnDownBlock2D", "AttnUpBlock2D", add_attention=True),
    "attention with resnet sampling": _plain("AttnDownBlock2D", "AttnUpBlock2D", downsample_type="resnet", upsample_type="resnet"),
    "resnet sampling": _plain("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D"),
    "skip": _plain("SkipDownBlock2D", "SkipUpBlock2D"),
    "attention skip": _plain("AttnSkipDownBlock2D", "AttnSkipUpBlock2D", block_out_channels=(32, 32)),
    "classes": _plain(num_class_embeds=5),
    "timestep classes": _plain(class_embed_type="timestep"),
    "identity classes": _plain(class_embed_type="identity"),
    "scale and shift": _plain(resnet_time_scale_shift="scale_shift"),
    "fourier time": _plain(time_embedding_type="fourier"),
    "learned time": _plain(time_embedding_type="learned", num_train_timesteps=1000),
    "centred": _plain(center_input_sample=True),
    "asymmetric padding": _plain(downsample_padding=0),
    "mean pooling": _plain(act_fn="relu", mid_block_scale_factor=2.0),
    "mish": _plain(act_fn="mish"),
    "no middle": _plain(mid_block_type=None),
    "oblong": _plain("AttnDownBlock2D", "AttnUpBlock2D", sample_size=(8, 12)),
    "cross attention": _condition(),
    "simple cross attention": _condition("SimpleCrossAttnDownBlock2D", "SimpleCrossAttnUpBlock2D", "UNetMidBlock2DSimpleCrossAttn"),
    "simple cross attention only": _deepfloyd(
        16, only_cross_attention=True, cross_attention_norm="layer_norm", resnet_skip_time_act=True, resnet_out_scale_factor=2.0,
    ),
    "simple cross attention with group norm": _deepfloyd(32, cross_attention_norm="group_norm"),
    "conditional resnet sampling": _condition("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D", "UNetMidBlock2D"),
    "conditional attention": _condition("AttnDownBlock2D", "AttnUpBlock2D", None),
    "katherine": _katherine("KDownBlock2D", "KUpBlock2D"),
    "katherine cross attention": _katherine(
        "KCrossAttnDownBlock2D", "KCrossAttnUpBlock2D", block_out_channels=(32, 32, 64, 64),
        down_block_types=("KDownBlock2D", *["KCrossAttnDownBlock2D"] * 3),
        up_block_types=(*["KCrossAttnUpBlock2D"] * 3, "KUpBlock2D"),
        sample_size=16,
    ),
    "guidance embedding": _condition(time_cond_proj_dim=6),
    "linear projection": _condition(use_linear_projection=True, transformer_layers_per_block=2),
    "upcast attention": _condition(upcast_attention=True),
    "only cross attention": _condition(only_cross_attention=True),
    "conditional scale and shift": _condition(resnet_time_scale_shift="scale_shift"),
    "text and time": _condition(
        addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=24 + 10,
        use_linear_projection=True,
    ),
    "text": _condition(
        addition_embed_type="text", addition_embed_type_num_heads=2, encoder_hid_dim=16, encoder_hid_dim_type="text_proj",
    ),
    "text and image": _condition(
        addition_embed_type="text_image", encoder_hid_dim=16, encoder_hid_dim_type="text_image_proj",
    ),
    "image": _condition(addition_embed_type="image", encoder_hid_dim=16, encoder_hid_dim_type="image_proj"),
    "image and hint": _condition(
        addition_embed_type="image_hint", encoder_hid_dim=16, encoder_hid_dim_type="image_proj", in_channels=8,
    ),
    "projected text": _condition(encoder_hid_dim=16),
    "conditional classes": _condition(num_class_embeds=5),
    "conditional timestep classes": _condition(class_embed_type="timestep"),
    "conditional identity classes": _condition(class_embed_type="identity"),
    "projected classes": _condition(class_embed_type="projection", projection_class_embeddings_input_dim=6),
    "simply projected classes": _condition(class_embed_type="simple_projection", projection_class_embeddings_input_dim=6),
    "concatenated classes": _condition(
        class_embed_type="simple_projection", projection_class_embeddings_input_dim=6, class_embeddings_concat=True,
    ),
}  # fmt: skip
QUICK = ("classes",)


def build(name: str) -> torch.nn.Module:
    """The model with seeded weights, none of them at a neutral value such as a scale of one."""
    import diffusers

    config = dict(ARCHITECTURES[name])
    torch.manual_seed(0)
    return perturbed(getattr(diffusers, config.pop("kind"))(**config))


def perturbed(model: torch.nn.Module) -> torch.nn.Module:
    """The model with a twentieth of normal noise on its weights: projections that start at zero and norms do their part."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()
