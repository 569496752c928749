"""Example calls of diffusion transformers, whose pipelines pass one timestep for each element of the batch."""

from __future__ import annotations

import torch

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.examples.call import BATCH, Arguments, Call

__all__ = [
    "GUIDANCE", "T5", "amused", "aura_flow", "cogview", "dit", "hunyuan", "pixart", "sana", "sd3", "sd3_control", "steps",
    "transformer_2d",
]  # fmt: skip

STEPS = (481.5, 120.25)  # timesteps out of 1000, one for each element of the batch
GUIDANCE = (4.5, 3.5)  # scales of classifier-free guidance
PIXELS = 8.0  # an entry of the latent covers 8x8 pixels
CLIP, T5, T5_OF_SD3, T5_OF_PIXART, T5_OF_AURA, T5_OF_COGVIEW, GEMMA = 77, 512, 256, 300, 256, 224, 300  # tokens of a padded prompt


def _latent(call: Call, usual: int) -> torch.Tensor:
    """Return a latent (B, C, H, W) of whole patches."""
    return call.random(BATCH, call.config.in_channels, *call.size(usual, call.config.patch_size))


def steps(scale: float = 1.0) -> torch.Tensor:
    """Return timesteps (B,) out of 1000, times `scale`."""
    return torch.tensor(STEPS) * scale


def dit(call: Call) -> Arguments:
    """Return the arguments of `DiTTransformer2DModel`: a latent, timesteps and classes. It supports squares of the configured size
    only."""
    sample, own = _latent(call, call.config.sample_size), call.config.sample_size
    height, width = sample.shape[2:]
    if height != width:
        raise CompileError(Diagnostic(f"{call.name} supports only {own}x{own}, not {height}x{width}", help="leave size out"))
    return {"hidden_states": sample, "timestep": steps(), "class_labels": call.labels(call.config.num_embeds_ada_norm)}


def pixart(call: Call) -> Arguments:
    """Return the arguments of `PixArtTransformer2DModel`: a latent, a prompt with its mask, timesteps, and picture sizes where it
    reads them."""
    config = call.config
    sample, tokens = _latent(call, config.sample_size), call.tokens(T5_OF_PIXART)
    arguments: Arguments = {
        "hidden_states": sample,
        "encoder_hidden_states": call.random(BATCH, tokens, config.caption_channels or config.cross_attention_dim),
        "timestep": steps(),
        "encoder_attention_mask": call.mask(tokens),
    }
    if call.module.use_additional_conditions:
        height, width = (PIXELS * side for side in sample.shape[2:])
        sizes = {"resolution": [height, width], "aspect_ratio": [height / width]}
        arguments["added_cond_kwargs"] = {name: torch.tensor([value] * BATCH) for name, value in sizes.items()}
    return arguments


def sd3(call: Call) -> Arguments:
    """Return the arguments of `SD3Transformer2DModel`: a latent, the tokens of CLIP and T5 in one prompt, the pooled prompt, and
    timesteps."""
    config = call.config
    return {
        "hidden_states": _latent(call, config.sample_size),
        "encoder_hidden_states": call.random(BATCH, call.tokens(CLIP + T5_OF_SD3), config.joint_attention_dim),
        "pooled_projections": call.random(BATCH, config.pooled_projection_dim),
        "timestep": steps(),
    }


def sana(call: Call) -> Arguments:
    """Return the arguments of `SanaTransformer2DModel`: a latent, a prompt with its mask, timesteps, and guidance where it is
    distilled."""
    config, tokens = call.config, call.tokens(GEMMA)
    arguments: Arguments = {
        "hidden_states": _latent(call, config.sample_size),
        "encoder_hidden_states": call.random(BATCH, tokens, config.caption_channels),
        "timestep": steps(),
        "encoder_attention_mask": call.mask(tokens),
    }
    if config.guidance_embeds:
        arguments["guidance"] = torch.tensor(GUIDANCE) * config.guidance_embeds_scale
    return arguments


def aura_flow(call: Call) -> Arguments:
    """Return the arguments of `AuraFlowTransformer2DModel`: a latent, a prompt, and timesteps from 0 to 1."""
    return {
        "hidden_states": _latent(call, call.config.sample_size),
        "encoder_hidden_states": call.random(BATCH, call.tokens(T5_OF_AURA), call.config.joint_attention_dim),
        "timestep": steps(1 / 1000),
    }


def cogview(call: Call) -> Arguments:
    """Return the arguments of `CogView3PlusTransformer2DModel` and its successor: a latent, a prompt, timesteps, picture sizes and
    crops."""
    sample = _latent(call, call.config.sample_size)
    sizes = torch.tensor([[PIXELS * side for side in sample.shape[2:]]] * BATCH)
    return {
        "hidden_states": sample,
        "encoder_hidden_states": call.random(BATCH, call.tokens(T5_OF_COGVIEW), call.config.text_embed_dim),
        "timestep": steps(),
        "original_size": sizes,
        "target_size": sizes,
        "crop_coords": torch.tensor([[3.0, 5.0]] * BATCH),
    }


def sd3_control(call: Call) -> Arguments:
    """Return the arguments of `SD3ControlNetModel`: those of its transformer, and the latent of the picture that guides it."""
    config, own = call.config, sd3(call)
    height, width = call.size(config.sample_size)
    own["controlnet_cond"] = call.random(BATCH, config.in_channels + config.extra_conditioning_channels, height, width)
    return own


def amused(call: Call) -> Arguments:
    """Return the arguments of `UVit2DModel`: a picture as codes (B, H, W), a prompt, the pooled prompt, and sizes, crops and an
    aesthetic score."""
    config = call.config
    height, width = call.size(config.sample_size, 2 if config.downsample else 1)
    sizes = config.micro_cond_embed_dim // config.micro_cond_encode_dim
    return {
        "input_ids": torch.arange(BATCH * height * width).reshape(BATCH, height, width) % config.vocab_size,
        "encoder_hidden_states": call.random(BATCH, call.tokens(CLIP), config.encoder_hidden_size),
        "pooled_text_emb": call.random(BATCH, config.cond_embed_dim),
        "micro_conds": torch.tensor([[512.0, 512, 3, 5, 6]] * BATCH)[:, :sizes],
    }


def hunyuan(call: Call) -> Arguments:
    """Return the arguments of `HunyuanDiT2DModel`: a latent, timesteps, two prompts with masks, sizes, a style, and rotary position
    embeddings."""
    config = call.config
    sample = _latent(call, config.sample_size)
    height, width = (side // config.patch_size for side in sample.shape[2:])
    angles = call.random(height * width, config.attention_head_dim)
    arguments: Arguments = {
        "hidden_states": sample,
        "timestep": steps(),
        "encoder_hidden_states": call.random(BATCH, config.text_len, config.cross_attention_dim),
        "text_embedding_mask": call.mask(config.text_len),
        "encoder_hidden_states_t5": call.random(BATCH, config.text_len_t5, config.cross_attention_dim_t5),
        "text_embedding_mask_t5": call.mask(config.text_len_t5),
        "image_rotary_emb": (angles.cos(), angles.sin()),
    }
    if config.use_style_cond_and_image_meta_size:
        pixels = [PIXELS * side for side in sample.shape[2:]]
        arguments |= {"image_meta_size": torch.tensor([[*pixels, *pixels, 3.0, 5.0]] * BATCH), "style": torch.zeros(BATCH).long()}
    return arguments


def transformer_2d(call: Call) -> Arguments:
    """Return the arguments of `Transformer2DModel` on its own: the attention of a UNet's level, or the older form of DiT and
    PixArt.

    Raises:
        CompileError: for its form that reads discrete codes.
    """
    config = call.config
    if config.norm_type == "ada_norm_zero":
        return dit(call)
    if config.norm_type == "ada_norm_single":
        return pixart(call)
    if config.in_channels is None or config.norm_type != "layer_norm":
        raise CompileError(
            Diagnostic(f"the inputs of {call.name} on discrete codes are not known", help="pass example_inputs with a batch of two")
        )
    sample = call.random(BATCH, config.in_channels, *call.size(config.sample_size or 32, config.patch_size or 1))
    if config.cross_attention_dim is None:
        return {"hidden_states": sample}
    prompt = call.random(BATCH, call.tokens(CLIP), config.caption_channels or config.cross_attention_dim)
    return {"hidden_states": sample, "encoder_hidden_states": prompt}
