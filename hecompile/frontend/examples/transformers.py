"""Example calls of diffusion transformers. Their pipelines pass the step once for each element of the batch."""

from __future__ import annotations

import torch

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.examples.call import BATCH, Arguments, Call

__all__ = ["aura_flow", "cogview3_plus", "dit", "flux", "pixart", "sana", "sd3", "transformer_2d"]

STEPS = (481.5, 120.25)  # of a thousand, one for each element of the batch
GUIDANCE = (4.5, 3.5)  # scales of classifier-free guidance
LATENT = 128  # side of a latent of 1024 pixels, where the configuration says none
PIXELS = 8.0  # of a picture for each of its latent, each way
CLIP, T5_OF_SD3, T5, GEMMA, AURA, COGVIEW = 77, 256, 512, 300, 256, 224  # tokens that the pipelines fill prompts to
PIXART = 300


def _latent(call: Call, usual: int) -> torch.Tensor:
    """(B, C, H, W) of whole patches."""
    return call.random(BATCH, call.config.in_channels, *call.size(usual, call.config.patch_size))


def _steps(scale: float = 1.0) -> torch.Tensor:
    return torch.tensor(STEPS) * scale


def dit(call: Call) -> Arguments:
    """`DiTTransformer2DModel`: a latent, steps and classes. Its positions are those of squares of the configured size."""
    sample, own = _latent(call, call.config.sample_size), call.config.sample_size
    height, width = sample.shape[2:]
    if height != width:
        raise CompileError(
            Diagnostic(f"{call.name} draws squares, not {height}x{width}", help=f"leave size out, it is {own}x{own} then")
        )
    return {"hidden_states": sample, "timestep": _steps(), "class_labels": call.labels(call.config.num_embeds_ada_norm)}


def pixart(call: Call) -> Arguments:
    """`PixArtTransformer2DModel`: a latent, a prompt with its mask, steps, and sizes of the picture where it takes them."""
    config = call.config
    sample, tokens = _latent(call, config.sample_size), call.tokens(PIXART)
    arguments: Arguments = {
        "hidden_states": sample,
        "encoder_hidden_states": call.random(BATCH, tokens, config.caption_channels or config.cross_attention_dim),
        "timestep": _steps(),
        "encoder_attention_mask": call.mask(tokens),
    }
    if call.module.use_additional_conditions:
        height, width = (PIXELS * side for side in sample.shape[2:])
        sizes = {"resolution": [height, width], "aspect_ratio": [height / width]}
        arguments["added_cond_kwargs"] = {name: torch.tensor([value] * BATCH) for name, value in sizes.items()}
    return arguments


def sd3(call: Call) -> Arguments:
    """`SD3Transformer2DModel`: a latent, the tokens of CLIP and T5 in one prompt, the pooled prompt, and steps."""
    config = call.config
    return {
        "hidden_states": _latent(call, config.sample_size),
        "encoder_hidden_states": call.random(BATCH, call.tokens(CLIP + T5_OF_SD3), config.joint_attention_dim),
        "pooled_projections": call.random(BATCH, config.pooled_projection_dim),
        "timestep": _steps(),
    }


def flux(call: Call) -> Arguments:
    """`FluxTransformer2DModel`: squares of 2x2 of the latent as tokens, the prompt, the places of both, and steps from 0 to 1."""
    config = call.config
    height, width = (side // 2 for side in call.size(LATENT, 2))
    tokens = call.tokens(T5)
    if BATCH in (tokens, height * width):
        raise CompileError(Diagnostic("two tokens cannot be told from a batch of two", help="give other size or tokens"))
    rows, columns = torch.arange(height).repeat_interleave(width), torch.arange(width).repeat(height)
    arguments: Arguments = {
        "hidden_states": call.random(BATCH, height * width, config.in_channels),
        "encoder_hidden_states": call.random(BATCH, tokens, config.joint_attention_dim),
        "pooled_projections": call.random(BATCH, config.pooled_projection_dim),
        "timestep": _steps(1 / 1000),
        "img_ids": torch.stack([torch.zeros_like(rows), rows, columns], dim=1).float(),
        "txt_ids": (torch.arange(3 * tokens).reshape(tokens, 3) % 7).float(),  # pipelines pass zeros, which would hide a path
    }
    if config.guidance_embeds:
        arguments["guidance"] = torch.tensor(GUIDANCE)
    return arguments


def sana(call: Call) -> Arguments:
    """`SanaTransformer2DModel`: a latent, a prompt with its mask, steps, and guidance where it is distilled."""
    config, tokens = call.config, call.tokens(GEMMA)
    arguments: Arguments = {
        "hidden_states": _latent(call, config.sample_size),
        "encoder_hidden_states": call.random(BATCH, tokens, config.caption_channels),
        "timestep": _steps(),
        "encoder_attention_mask": call.mask(tokens),
    }
    if config.guidance_embeds:
        arguments["guidance"] = torch.tensor(GUIDANCE) * config.guidance_embeds_scale
    return arguments


def aura_flow(call: Call) -> Arguments:
    """`AuraFlowTransformer2DModel`: a latent, a prompt, and steps from 0 to 1."""
    return {
        "hidden_states": _latent(call, call.config.sample_size),
        "encoder_hidden_states": call.random(BATCH, call.tokens(AURA), call.config.joint_attention_dim),
        "timestep": _steps(1 / 1000),
    }


def cogview3_plus(call: Call) -> Arguments:
    """`CogView3PlusTransformer2DModel`: a latent, a prompt, steps, and sizes and crops of the picture."""
    sample = _latent(call, call.config.sample_size)
    sizes = torch.tensor([[PIXELS * side for side in sample.shape[2:]]] * BATCH)
    return {
        "hidden_states": sample,
        "encoder_hidden_states": call.random(BATCH, call.tokens(COGVIEW), call.config.text_embed_dim),
        "timestep": _steps(),
        "original_size": sizes,
        "target_size": sizes,
        "crop_coords": torch.tensor([[3.0, 5.0]] * BATCH),
    }


def transformer_2d(call: Call) -> Arguments:
    """`Transformer2DModel` on its own: the attention of a UNet's level, or the older spelling of DiT and PixArt.

    Raises:
        CompileError: for its discrete form.
    """
    config = call.config
    if config.norm_type == "ada_norm_zero":
        return dit(call)
    if config.norm_type == "ada_norm_single":
        return pixart(call)
    if config.in_channels is None or config.norm_type != "layer_norm":
        raise CompileError(
            Diagnostic(f"{call.name} of discrete pictures or steps", help="pass example_inputs, with a batch of two")
        )
    sample = call.random(BATCH, config.in_channels, *call.size(config.sample_size or 32, config.patch_size or 1))
    if config.cross_attention_dim is None:
        return {"hidden_states": sample}
    prompt = call.random(BATCH, call.tokens(CLIP), config.caption_channels or config.cross_attention_dim)
    return {"hidden_states": sample, "encoder_hidden_states": prompt}
