"""Example inputs for every denoiser of diffusers, derived from its class and configuration.

To support another class, add a function from a `Call` to arguments, and its line in the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from hecompile.frontend.examples import autoencoders, conditional, kandinsky, placed, transformers, unets
from hecompile.frontend.examples.call import Arguments, Call

__all__ = ["example_arguments", "known_models"]

_EXAMPLES: Mapping[str, Callable[[Call], Arguments]] = {
    "AuraFlowTransformer2DModel": transformers.aura_flow,
    "CogView3PlusTransformer2DModel": transformers.cogview,
    "CogView4Transformer2DModel": transformers.cogview,
    "ControlNetModel": conditional.control,
    "Decoder": autoencoders.decoder,
    "DecoderTiny": autoencoders.decoder,
    "DiTTransformer2DModel": transformers.dit,
    "Encoder": autoencoders.encoder,
    "EncoderTiny": autoencoders.encoder,
    "FluxControlNetModel": placed.flux_control,
    "FluxTransformer2DModel": placed.flux,
    "HunyuanDiT2DModel": transformers.hunyuan,
    "Kandinsky3UNet": kandinsky.kandinsky3,
    "PixArtTransformer2DModel": transformers.pixart,
    "PriorTransformer": kandinsky.prior,
    "SD3ControlNetModel": transformers.sd3_control,
    "SD3Transformer2DModel": transformers.sd3,
    "SanaTransformer2DModel": transformers.sana,
    "Transformer2DModel": transformers.transformer_2d,
    "UNet1DModel": unets.plain_1d,
    "UNet2DConditionModel": conditional.conditional,
    "UNet2DModel": unets.plain,
    "UNet3DConditionModel": conditional.video,
    "UNetSpatioTemporalConditionModel": conditional.video_of_a_picture,
    "UVit2DModel": transformers.amused,
}


def known_models() -> tuple[str, ...]:
    """Return the classes of diffusers that need no example inputs, in alphabetical order."""
    return tuple(sorted(_EXAMPLES))


def example_arguments(
    module: torch.nn.Module, size: tuple[int, int] | None = None, tokens: int | None = None
) -> dict[str, object] | None:
    """Return keyword arguments for one call with a batch of two, in the order of `forward`; None for a module whose class is not
    known.

    They are seeded, and random where zeros could hide an error. Values are tensors, lists and dictionaries of tensors, or None
    where `forward` requires an argument that the model does not read.

    Args:
        size: height and width of the sample, which is the latent, or the picture of a model without latents; None for the
            configuration's.
        tokens: length of the prompt; None for the length to which the model's pipeline pads prompts.

    Raises:
        CompileError: if a size or tokens are given to a model that has none, or the model cannot use them.
    """
    for kind in type(module).__mro__:
        inherited = kind.__module__.startswith("diffusers.") and type(module).forward is getattr(kind, "forward", None)
        if inherited and kind.__name__ in _EXAMPLES:
            call = Call(module, size, tokens)
            return call.finish(_EXAMPLES[kind.__name__](call))
    return None
