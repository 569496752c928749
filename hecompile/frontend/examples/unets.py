"""Example calls of UNets without a prompt, and what all UNets have in common: the timestep and class labels."""

from __future__ import annotations

import torch

from hecompile.frontend.examples.call import BATCH, Arguments, Call

__all__ = ["SIDE", "class_labels", "plain", "plain_1d", "step"]

SIDE = 32  # side of the sample, used where the configuration names none
STEP = 481.5  # a timestep out of 1000; some schedulers use timesteps between integers


def step(call: Call) -> torch.Tensor:
    """Return the timestep, one number for the batch. It is an integer where the model looks it up in a table."""
    if getattr(call.config, "time_embedding_type", None) != "learned":
        return torch.tensor(STEP)
    return torch.tensor(min(int(STEP), call.config.num_train_timesteps - 1))


def class_labels(call: Call) -> Arguments:
    """Return class labels as the configured embedding reads them: classes, timesteps or vectors; nothing without such an
    embedding."""
    if getattr(call.module, "class_embedding", None) is None:
        return {}
    config, kind = call.config, call.config.class_embed_type
    if kind is None:
        return {"class_labels": call.labels(config.num_class_embeds)}
    if kind == "timestep":
        return {"class_labels": torch.tensor([3.0, 7.0])}
    if kind == "identity":
        return {"class_labels": call.random(BATCH, getattr(config, "time_embedding_dim", None) or config.block_out_channels[0] * 4)}
    return {"class_labels": call.random(BATCH, config.projection_class_embeddings_input_dim)}


def plain(call: Call) -> Arguments:
    """Return the arguments of `UNet2DModel`: a sample (B, C, H, W), a timestep, and labels where it has classes."""
    height, width = call.size(call.config.sample_size or SIDE)
    sample = call.random(BATCH, call.config.in_channels, height, width)
    return {"sample": sample, "timestep": step(call), **class_labels(call)}


def plain_1d(call: Call) -> Arguments:
    """Return the arguments of `UNet1DModel`: a sample (B, C, L) of the configured length, and a timestep."""
    return {"sample": call.random(BATCH, call.config.in_channels, call.config.sample_size), "timestep": step(call)}
