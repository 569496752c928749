"""Tiny models of diffusers, one of every kind whose call is known, with seeded weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from hecompile.frontend.examples import example_arguments
from tests.frontend.architectures import perturbed

__all__ = ["ADAPTERS", "FURTHER", "MODELS", "Model", "adapted"]

IMAGE_WIDTH = 6  # of the pictures that IP-Adapters read


@dataclass(frozen=True)
class Model:
    """A configuration of a class of diffusers, or of a `part` of it, with the size and the prompt of one call."""

    kind: str
    config: Mapping[str, Any]
    part: str = ""
    size: tuple[int, int] | None = None
    tokens: int | None = None
    result: str = "noise"

    def build(self) -> torch.nn.Module:
        """The module with seeded weights, none of them at a neutral value such as a scale of one."""
        import diffusers

        torch.manual_seed(0)
        model = perturbed(getattr(diffusers, self.kind)(**self.config))
        return getattr(model, self.part) if self.part else model

    def arguments(self, module: torch.nn.Module) -> dict[str, object]:
        """The example arguments of `module`, which `build` gave."""
        arguments = example_arguments(module, self.size, self.tokens)
        assert arguments is not None
        return arguments


CROSS = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "block_out_channels": (8, 16), "layers_per_block": 1,
    "norm_num_groups": 4, "attention_head_dim": 4, "cross_attention_dim": 12,
}  # fmt: skip
CONDITIONAL = {**CROSS, "sample_size": 8, "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}
HALVES = {
    "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2, "block_out_channels": (8, 16),
    "norm_num_groups": 4, "latent_channels": 4,
}  # fmt: skip
DEEP = {
    "latent_channels": 4, "attention_head_dim": 4, "encoder_block_types": ("ResBlock", "EfficientViTBlock"),
    "decoder_block_types": ("ResBlock", "EfficientViTBlock"), "encoder_block_out_channels": (8, 16),
    "decoder_block_out_channels": (8, 16), "encoder_layers_per_block": (1, 1), "decoder_layers_per_block": (1, 1),
    "encoder_qkv_multiscales": ((), (5,)), "decoder_qkv_multiscales": ((), (5,)),
}  # fmt: skip
HEADS = {"num_attention_heads": 2, "attention_head_dim": 8, "sample_size": 8}
TINY = {
    "encoder_block_out_channels": (8,) * 4, "decoder_block_out_channels": (8,) * 4, "num_encoder_blocks": (1,) * 4,
    "num_decoder_blocks": (1,) * 4,
}  # fmt: skip

MODELS = {
    "UNet1DModel": Model(
        "UNet1DModel",
        {
            "sample_size": 16, "in_channels": 2, "out_channels": 2, "extra_in_channels": 16, "block_out_channels": (8, 32),
            "down_block_types": ("DownBlock1DNoSkip", "AttnDownBlock1D"), "up_block_types": ("UpBlock1D", "UpBlock1DNoSkip"),
        },
    ),
    "UNet2DModel": Model(
        "UNet2DModel",
        {
            "sample_size": 8, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 4,
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
        },
    ),
    "UNet2DConditionModel": Model("UNet2DConditionModel", CONDITIONAL, tokens=7),
    "UNet3DConditionModel": Model(
        "UNet3DConditionModel",
        {
            **CROSS, "sample_size": 4, "block_out_channels": (8,), "down_block_types": ("CrossAttnDownBlock3D",),
            "up_block_types": ("CrossAttnUpBlock3D",),
        },
        tokens=7,
    ),
    "DiTTransformer2DModel": Model("DiTTransformer2DModel", {**HEADS, "num_layers": 2, "num_embeds_ada_norm": 10}),
    "PixArtTransformer2DModel": Model(
        "PixArtTransformer2DModel",
        {
            **HEADS, "num_attention_heads": 3, "num_layers": 1, "cross_attention_dim": 24, "caption_channels": 12,
            "use_additional_conditions": True,
        },
        tokens=7, result="noise and its variance",
    ),
    "SD3Transformer2DModel": Model(
        "SD3Transformer2DModel",
        {
            **HEADS, "num_layers": 2, "in_channels": 4, "out_channels": 4, "joint_attention_dim": 12, "caption_projection_dim": 16,
            "pooled_projection_dim": 10, "pos_embed_max_size": 8, "qk_norm": "rms_norm", "dual_attention_layers": (0,),
        },
        tokens=7,
    ),
    "FluxTransformer2DModel": Model(
        "FluxTransformer2DModel",
        {
            "in_channels": 8, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2,
            "joint_attention_dim": 12, "pooled_projection_dim": 10, "guidance_embeds": True, "axes_dims_rope": (2, 2, 4),
        },
        size=(8, 8), tokens=7,
    ),
    "SanaTransformer2DModel": Model(
        "SanaTransformer2DModel",
        {
            **HEADS, "in_channels": 4, "out_channels": 4, "num_layers": 1, "num_cross_attention_heads": 2,
            "cross_attention_head_dim": 8, "cross_attention_dim": 16, "caption_channels": 12, "guidance_embeds": True,
        },
        tokens=7,
    ),
    "ControlNetModel": Model(
        "ControlNetModel", {**CROSS, "conditioning_embedding_out_channels": (4, 8)}, size=(8, 8), tokens=7,
        result="residuals of every level and the middle",
    ),
    "AutoencoderKL encoder": Model(
        "AutoencoderKL", HALVES, part="encoder", size=(8, 12), result="mean and log variance of the latent"
    ),
    "AutoencoderKL decoder": Model("AutoencoderKL", HALVES, part="decoder", size=(8, 8), result="picture"),
}  # fmt: skip

FURTHER = {
    "UNet1DModel of paths": Model(
        "UNet1DModel",
        {
            "sample_size": 16, "in_channels": 4, "out_channels": 4, "block_out_channels": (8, 16), "layers_per_block": 1,
            "down_block_types": ("DownResnetBlock1D",) * 2, "up_block_types": ("UpResnetBlock1D",), "act_fn": "mish",
            "mid_block_type": "MidResTemporalBlock1D", "out_block_type": "OutConv1DBlock", "use_timestep_embedding": True,
            "time_embedding_type": "positional",
        },
    ),
    "UNet2DConditionModel with guidance and classes": Model(
        "UNet2DConditionModel", {**CONDITIONAL, "time_cond_proj_dim": 6, "num_class_embeds": 5}, tokens=7
    ),
    "UNetSpatioTemporalConditionModel": Model(
        "UNetSpatioTemporalConditionModel",
        {
            "sample_size": 8, "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
            "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"), "block_out_channels": (32, 64),
            "addition_time_embed_dim": 4, "projection_class_embeddings_input_dim": 12, "layers_per_block": 1,
            "cross_attention_dim": 12, "num_attention_heads": (2, 4), "num_frames": 3,
        },
    ),
    "AuraFlowTransformer2DModel": Model(
        "AuraFlowTransformer2DModel",
        {
            **HEADS, "num_mmdit_layers": 1, "num_single_dit_layers": 1, "joint_attention_dim": 12, "caption_projection_dim": 16,
            "pos_embed_max_size": 16,
        },
        tokens=7,
    ),
    "CogView3PlusTransformer2DModel": Model(
        "CogView3PlusTransformer2DModel",
        {
            **HEADS, "in_channels": 4, "out_channels": 4, "num_layers": 1, "text_embed_dim": 12, "time_embed_dim": 8,
            "condition_dim": 4, "pos_embed_max_size": 8,
        },
        tokens=7,
    ),
    "CogView4Transformer2DModel": Model(
        "CogView4Transformer2DModel",
        {
            **HEADS, "in_channels": 4, "out_channels": 4, "num_layers": 1, "text_embed_dim": 12, "time_embed_dim": 8,
            "condition_dim": 4, "pos_embed_max_size": 8, "rope_axes_dim": (8, 8),
        },
        tokens=7,
    ),
    "FluxControlNetModel": Model(
        "FluxControlNetModel",
        {
            "in_channels": 8, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2,
            "joint_attention_dim": 12, "pooled_projection_dim": 10, "axes_dims_rope": (2, 2, 4), "num_mode": 4,
        },
        size=(8, 8), tokens=7,
    ),
    "SD3ControlNetModel": Model(
        "SD3ControlNetModel",
        {
            **HEADS, "num_layers": 1, "in_channels": 4, "joint_attention_dim": 12, "caption_projection_dim": 16,
            "pooled_projection_dim": 10, "pos_embed_max_size": 8, "extra_conditioning_channels": 1,
        },
        tokens=7,
    ),
    "HunyuanDiT2DModel": Model(
        "HunyuanDiT2DModel",
        {
            **HEADS, "in_channels": 4, "patch_size": 2, "hidden_size": 16, "num_layers": 4, "mlp_ratio": 2.0, "text_len": 5,
            "cross_attention_dim": 12, "cross_attention_dim_t5": 16, "pooled_projection_dim": 6, "text_len_t5": 6,
        },
    ),
    "UVit2DModel": Model(
        "UVit2DModel",
        {
            "hidden_size": 16, "cond_embed_dim": 10, "micro_cond_encode_dim": 4, "micro_cond_embed_dim": 20,
            "encoder_hidden_size": 12, "vocab_size": 9, "codebook_size": 8, "in_channels": 8, "block_out_channels": 8,
            "num_res_blocks": 1, "block_num_heads": 2, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24,
            "sample_size": 4,
        },
        tokens=7,
    ),
    "PriorTransformer": Model(
        "PriorTransformer",
        {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1, "embedding_dim": 12, "num_embeddings": 7},
    ),
    "Kandinsky3UNet": Model(
        "Kandinsky3UNet",
        {
            "time_embedding_dim": 16, "groups": 4, "attention_head_dim": 4, "layers_per_block": 2,
            "block_out_channels": (8, 8, 16, 16), "cross_attention_dim": 12, "encoder_hid_dim": 10,
        },
        size=(16, 16), tokens=7,
    ),
    "Transformer2DModel": Model(
        "Transformer2DModel", {**HEADS, "in_channels": 8, "norm_num_groups": 4, "cross_attention_dim": 12}, tokens=7
    ),
    "Transformer2DModel without a prompt": Model("Transformer2DModel", {**HEADS, "in_channels": 8, "norm_num_groups": 4}),
    "AutoencoderTiny encoder": Model("AutoencoderTiny", TINY, part="encoder", size=(16, 16)),
    "AutoencoderTiny decoder": Model("AutoencoderTiny", TINY, part="decoder", size=(4, 4)),
    "AutoencoderDC encoder": Model("AutoencoderDC", DEEP, part="encoder", size=(8, 8)),
    "AutoencoderDC decoder": Model("AutoencoderDC", DEEP, part="decoder", size=(4, 4)),
    "VQModel decoder with spatial norms": Model(
        "VQModel", {**HALVES, "block_out_channels": (32, 32), "norm_num_groups": 32, "norm_type": "spatial"}, part="decoder",
        size=(8, 8),
    ),
}  # fmt: skip


def _projected(cross: int) -> dict[str, torch.Tensor]:
    """Weights of an IP-Adapter's projection of one picture to four tokens."""
    shapes = {"proj.weight": (4 * cross, IMAGE_WIDTH), "proj.bias": (4 * cross,), "norm.weight": (cross,), "norm.bias": (cross,)}
    return {name: torch.randn(shape) / 2 for name, shape in shapes.items()}


def _patched(cross: int) -> dict[str, torch.Tensor]:
    """Weights of an IP-Adapter's projection of every patch of a picture."""
    wide, cross_of = (IMAGE_WIDTH, IMAGE_WIDTH), (cross, IMAGE_WIDTH)
    shapes = {
        "proj.0.weight": wide, "proj.0.bias": wide[:1], "proj.2.weight": cross_of, "proj.2.bias": (cross,),
        "proj.3.weight": (cross,), "proj.3.bias": (cross,),
    }  # fmt: skip
    return {name: torch.randn(shape) / 2 for name, shape in shapes.items()}


ADAPTERS = {"one picture": [_projected], "two pictures": [_projected, _projected], "patches": [_patched]}


def adapted(name: str) -> torch.nn.Module:
    """A conditional UNet with IP-Adapters loaded as pipelines load them."""
    unet: Any = MODELS["UNet2DConditionModel"].build()
    cross, widths = unet.config.cross_attention_dim, unet.config.block_out_channels
    attentions = [path for path in unet.attn_processors if path.endswith("attn2.processor")]
    states = []
    for projection in ADAPTERS[name]:
        layers: dict[str, torch.Tensor] = {}
        for place, path in enumerate(attentions):
            width = widths[-1] if path.startswith("mid_block") else widths[0]
            for part in ("to_k_ip", "to_v_ip"):
                layers[f"{2 * place + 1}.{part}.weight"] = torch.randn(width, cross) / 2
        states.append({"image_proj": projection(cross), "ip_adapter": layers})
    unet._load_ip_adapter_weights(states, low_cpu_mem_usage=False)
    return unet.eval()
