"""Example calls of the two halves of an autoencoder. They have no configuration, so their inputs are derived from their layers."""

from __future__ import annotations

import inspect

import torch

from hecompile.frontend.examples.call import BATCH, Arguments, Call

__all__ = ["decoder", "encoder"]

PICTURE = 512  # height and width in pixels of the picture that is encoded or decoded


def encoder(call: Call) -> Arguments:
    """Return the arguments of `Encoder` or `EncoderTiny`: pictures (B, C, H, W)."""
    return {_argument(call): call.random(BATCH, _channels(call), *call.size(PICTURE))}


def decoder(call: Call) -> Arguments:
    """Return the arguments of `Decoder` or `DecoderTiny`: latents (B, C, H, W), a second time for norms that read them."""
    size = call.size(PICTURE // _growth(call))
    arguments: Arguments = {_argument(call): call.random(BATCH, _channels(call), *size)}
    if type(getattr(call.module, "conv_norm_out", None)).__name__ == "SpatialNorm":
        arguments["latent_embeds"] = call.random(BATCH, _channels(call), *size)
    return arguments


def _argument(call: Call) -> str:
    """Return the name of the sample's argument: `sample`, `hidden_states` or `x`."""
    return next(iter(inspect.signature(call.module.forward).parameters))


def _channels(call: Call) -> int:
    """Return the number of channels that the first convolution reads."""
    return next(layer.in_channels for layer in call.module.modules() if isinstance(layer, torch.nn.Conv2d))


def _growth(call: Call) -> int:
    """Return how many times as wide as its latent the picture is: each block but one doubles it, or separate layers do."""
    if hasattr(call.module, "up_blocks"):
        return int(2 ** (len(call.module.up_blocks) - 1))
    return int(2 ** sum(isinstance(layer, torch.nn.Upsample) for layer in call.module.modules()))
