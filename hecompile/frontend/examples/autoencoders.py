"""Example calls of an autoencoder's two halves. They have no configuration: what they take is read off their layers."""

from __future__ import annotations

import torch

from hecompile.frontend.examples.call import BATCH, Arguments, Call

__all__ = ["decoder", "encoder", "tiny_decoder", "tiny_encoder"]

LATENT = 64  # side of Stable Diffusion's latents


def encoder(call: Call) -> Arguments:
    """`Encoder`: pictures (B, C, H, W), whose latents are of the usual size."""
    usual = LATENT * 2 ** (len(call.module.down_blocks) - 1)
    return {"sample": call.random(BATCH, call.module.conv_in.in_channels, *call.size(usual))}


def decoder(call: Call) -> Arguments:
    """`Decoder`: latents (B, C, H, W), once more for norms that read them."""
    channels, size = call.module.conv_in.in_channels, call.size(LATENT)
    arguments: Arguments = {"sample": call.random(BATCH, channels, *size)}
    if type(call.module.conv_norm_out).__name__ == "SpatialNorm":
        arguments["latent_embeds"] = call.random(BATCH, channels, *size)
    return arguments


def tiny_encoder(call: Call) -> Arguments:
    """`EncoderTiny`: pictures (B, C, H, W)."""
    return {"x": _first(call, 8 * LATENT)}


def tiny_decoder(call: Call) -> Arguments:
    """`DecoderTiny`: latents (B, C, H, W)."""
    return {"x": _first(call, LATENT)}


def _first(call: Call, usual: int) -> torch.Tensor:
    """A sample for the first layer."""
    return call.random(BATCH, call.module.layers[0].in_channels, *call.size(usual))
