"""Example calls of transformers whose tokens come with their positions: Flux and its ControlNets."""

from __future__ import annotations

import torch

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.examples.call import BATCH, Arguments, Call
from hecompile.frontend.examples.transformers import GUIDANCE, T5, steps

__all__ = ["flux", "flux_control"]

LATENT = 128  # side of the latent of a picture of 1024 pixels, which the configuration does not name
PATCH = 2  # a token is a patch of 2x2 entries of the latent


def flux(call: Call) -> Arguments:
    """Return the arguments of `FluxTransformer2DModel`: tokens of latent and prompt with their positions, the pooled prompt,
    timesteps from 0 to 1."""
    config = call.config
    height, width = (side // PATCH for side in call.size(LATENT, PATCH))
    tokens = call.tokens(T5)
    if BATCH in (tokens, height * width):
        raise CompileError(
            Diagnostic("two tokens cannot be told from a batch of two", help="give another size or number of tokens")
        )
    rows, columns = torch.arange(height).repeat_interleave(width), torch.arange(width).repeat(height)
    arguments: Arguments = {
        "hidden_states": call.random(BATCH, height * width, config.in_channels),
        "encoder_hidden_states": call.random(BATCH, tokens, config.joint_attention_dim),
        "pooled_projections": call.random(BATCH, config.pooled_projection_dim),
        "timestep": steps(1 / 1000),
        "img_ids": torch.stack([torch.zeros_like(rows), rows, columns], dim=1).float(),
        "txt_ids": (torch.arange(3 * tokens).reshape(tokens, 3) % 7).float(),  # pipelines pass zeros, which could hide an error
    }
    if config.guidance_embeds:
        arguments["guidance"] = torch.tensor(GUIDANCE)
    return arguments


def flux_control(call: Call) -> Arguments:
    """Return the arguments of `FluxControlNetModel`: those of its transformer, the picture that guides it, and that picture's
    kind."""
    config = call.config
    height, width = call.size(LATENT, PATCH)
    arguments = flux(call)
    if config.conditioning_embedding_channels is None:
        arguments["controlnet_cond"] = call.random(BATCH, height // PATCH * (width // PATCH), config.in_channels)
    else:
        arguments["controlnet_cond"] = call.random(BATCH, 3, 8 * height, 8 * width)  # an entry of the latent covers 8x8 pixels
    if call.module.union:
        arguments["controlnet_mode"] = call.labels(config.num_mode)[:, None]
    return arguments
