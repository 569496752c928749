"""Example calls of Kandinsky's own models: the prior, which predicts embeddings of pictures, and the UNet of Kandinsky 3."""

from __future__ import annotations

from hecompile.frontend.examples.call import BATCH, Arguments, Call
from hecompile.frontend.examples.unets import step

__all__ = ["kandinsky3", "prior"]

TOKENS, LATENT = 128, 128  # tokens of T5's prompts; side of the latent of a picture of 1024 pixels


def prior(call: Call) -> Arguments:
    """Return the arguments of `PriorTransformer`: an embedding (B, width) of a picture, a timestep, the prompt's embedding, tokens
    and mask."""
    config = call.config
    width, tokens = config.embedding_dim, config.num_embeddings
    arguments: Arguments = {
        "hidden_states": call.random(BATCH, width),
        "timestep": step(call),
        "proj_embedding": call.random(BATCH, config.embedding_proj_dim or width),
    }
    if config.encoder_hid_proj_type is not None:
        arguments |= {"encoder_hidden_states": call.random(BATCH, tokens, width), "attention_mask": call.mask(tokens).bool()}
    return arguments


def kandinsky3(call: Call) -> Arguments:
    """Return the arguments of `Kandinsky3UNet`: a latent, a timestep, and a prompt with its mask."""
    tokens = call.tokens(TOKENS)
    return {
        "sample": call.random(BATCH, call.config.in_channels, *call.size(LATENT)),
        "timestep": step(call),
        "encoder_hidden_states": call.random(BATCH, tokens, call.config.encoder_hid_dim),
        "encoder_attention_mask": call.mask(tokens).bool(),
    }
