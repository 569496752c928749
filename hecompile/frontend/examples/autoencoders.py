"""Example calls of an autoencoder's two halves. They have no configuration: what they take is read off their layers."""

from __future__ import annotations

import inspect

import torch

from hecompile.frontend.examples.call import BATCH, Arguments, Call

__all__ = ["decoder", "encoder"]

PICTURE = 512  # pixels each way, of the picture that goes in or comes out


def encoder(call: Call) -> Arguments:
    """`Encoder`, `EncoderTiny`: pictures (B, C, H, W)."""
    return {_argument(call): call.random(BATCH, _channels(call), *call.size(PICTURE))}


def decoder(call: Call) -> Arguments:
    """`Decoder`, `DecoderTiny`: latents (B, C, H, W), and once more for norms that read them."""
    size = call.size(PICTURE // _growth(call))
    arguments: Arguments = {_argument(call): call.random(BATCH, _channels(call), *size)}
    if type(getattr(call.module, "conv_norm_out", None)).__name__ == "SpatialNorm":
        arguments["latent_embeds"] = call.random(BATCH, _channels(call), *size)
    return arguments


def _argument(call: Call) -> str:
    """The name that the sample has: `sample`, `hidden_states` or `x`."""
    return next(iter(inspect.signature(call.module.forward).parameters))


def _channels(call: Call) -> int:
    """Of what the first convolution reads."""
    return next(layer.in_channels for layer in call.module.modules() if isinstance(layer, torch.nn.Conv2d))


def _growth(call: Call) -> int:
    """How many times as wide as its latent the picture is: each block but one doubles it, or layers of their own do."""
    if hasattr(call.module, "up_blocks"):
        return int(2 ** (len(call.module.up_blocks) - 1))
    return int(2 ** sum(isinstance(layer, torch.nn.Upsample) for layer in call.module.modules()))
