"""Example calls of UNets with a prompt, and of the ControlNets and video UNets that have the same conditions."""

from __future__ import annotations

import torch

from hecompile.errors import CompileError, Diagnostic
from hecompile.frontend.examples.call import BATCH, Arguments, Call
from hecompile.frontend.examples.unets import SIDE, class_labels, step

__all__ = ["conditional", "control", "video", "video_of_a_picture"]

TOKENS = 77  # tokens of CLIP's prompts
FRAMES = 16  # frames of a video, as in the pipelines of diffusers
LATENT = 64  # side of Stable Diffusion's latents, used where the configuration names none
HINT_CHANNELS, HINT_SCALE = 4, 8  # Kandinsky's ControlNet reads a picture that is eight times smaller, in four channels
PATCHES = 257  # tokens of a picture in CLIP's ViT: 16x16 patches and the class token


def conditional(call: Call) -> Arguments:
    """Return the arguments of `UNet2DConditionModel`: a latent, a timestep, a prompt, and further ones that the configuration
    needs."""
    config = call.config
    height, width = call.size(config.sample_size or SIDE)
    hinted = config.addition_embed_type == "image_hint"
    channels = config.in_channels - (HINT_CHANNELS if hinted else 0)  # the hint's channels are appended to the sample's
    sample = call.random(BATCH, channels, height, width)
    arguments: Arguments = {"sample": sample, "timestep": step(call), **_conditions(call, height, width)}
    if config.time_cond_proj_dim is not None:
        arguments["timestep_cond"] = call.random(BATCH, config.time_cond_proj_dim)
    return arguments


def control(call: Call) -> Arguments:
    """Return the arguments of `ControlNetModel`: those of its UNet, and the picture that guides it, in the size that its embedding
    reads."""
    height, width = call.size(LATENT)
    scale = 2 ** (len(call.config.conditioning_embedding_out_channels) - 1)
    sample = call.random(BATCH, call.config.in_channels, height, width)
    picture = call.random(BATCH, call.config.conditioning_channels, height * scale, width * scale)
    return {"sample": sample, "timestep": step(call), **_conditions(call, height, width), "controlnet_cond": picture}


def video(call: Call) -> Arguments:
    """Return the arguments of `UNet3DConditionModel`: latents (B, C, frames, H, W), a timestep and a prompt."""
    config = call.config
    sample = call.random(BATCH, config.in_channels, FRAMES, *call.size(config.sample_size or SIDE))
    arguments: Arguments = {"sample": sample, "timestep": step(call), "encoder_hidden_states": _prompt(call)}
    if config.time_cond_proj_dim is not None:
        arguments["timestep_cond"] = call.random(BATCH, config.time_cond_proj_dim)
    return arguments


def video_of_a_picture(call: Call) -> Arguments:
    """Return the arguments of `UNetSpatioTemporalConditionModel`: latents (B, frames, C, H, W), one token for the picture, and
    video rates."""
    config = call.config
    sample = call.random(BATCH, config.num_frames, config.in_channels, *call.size(config.sample_size or SIDE))
    rates = config.projection_class_embeddings_input_dim // config.addition_time_embed_dim
    return {
        "sample": sample,
        "timestep": step(call),
        "encoder_hidden_states": call.random(BATCH, 1, _width(call)),
        "added_time_ids": torch.tensor([[6.0, 127.0, 0.02]] * BATCH)[:, :rates],  # frames per second, motion, noise
    }


def _width(call: Call) -> int:
    """Return the width of a prompt's tokens, as the attention reads them."""
    cross = call.config.cross_attention_dim
    return cross if isinstance(cross, int) else max(cross)


def _prompt(call: Call) -> torch.Tensor:
    return call.random(BATCH, call.tokens(TOKENS), getattr(call.config, "encoder_hid_dim", None) or _width(call))


def _conditions(call: Call, height: int, width: int) -> Arguments:
    """Return the prompt, further conditions for a sample of this size, and class labels."""
    pictured = call.config.encoder_hid_dim_type == "image_proj"  # then a picture takes the place of the prompt
    arguments: Arguments = {"encoder_hidden_states": None if pictured else _prompt(call)}
    added = _added(call)
    if call.config.addition_embed_type == "image_hint":
        added["hint"] = call.random(BATCH, 3, height * HINT_SCALE, width * HINT_SCALE)
    return {**arguments, **({"added_cond_kwargs": added} if added else {}), **class_labels(call)}


def _added(call: Call) -> Arguments:
    """Return Kandinsky's pictures, SDXL's pooled prompt and sizes, or the pictures of IP-Adapters."""
    config, cross = call.config, _width(call)
    kind, projected = config.addition_embed_type, config.encoder_hid_dim_type
    added: Arguments = {}
    if kind == "text_time":
        time_ids = torch.tensor([[64.0, 64, 0, 0, 64, 64]] * BATCH)
        pooled = config.projection_class_embeddings_input_dim - time_ids.shape[1] * config.addition_time_embed_dim
        added |= {"text_embeds": call.random(BATCH, pooled), "time_ids": time_ids}
    if kind == "text_image":
        added["text_embeds"] = call.random(BATCH, cross)
    if projected == "ip_image_proj":
        added["image_embeds"] = [_adapted(call, layer) for layer in call.module.encoder_hid_proj.image_projection_layers]
    elif kind == "text_image" or projected == "text_image_proj":
        added["image_embeds"] = call.random(BATCH, cross)
    elif kind in ("image", "image_hint") or projected == "image_proj":
        added["image_embeds"] = call.random(BATCH, config.encoder_hid_dim)
    return added


def _adapted(call: Call, layer: torch.nn.Module) -> torch.Tensor:
    """Return one picture for one IP-Adapter as CLIP embeds it: (B, 1, width), or (B, 1, patches, width) for kinds that read
    patches.

    Raises:
        CompileError: for adapters that read something else.
    """
    kind = type(layer).__name__
    if kind == "ImageProjection":
        return call.random(BATCH, 1, _columns(layer, "image_embeds"))
    if kind == "IPAdapterPlusImageProjection":
        return call.random(BATCH, 1, PATCHES, _columns(layer, "proj_in"))
    if kind in ("IPAdapterFullImageProjection", "IPAdapterFaceIDImageProjection"):
        patches = (PATCHES,) if kind == "IPAdapterFullImageProjection" else ()
        return call.random(BATCH, 1, *patches, _columns(layer, "ff.net.0.proj"))
    raise CompileError(
        Diagnostic(f"the inputs of an IP-Adapter with {kind} are not known", help="pass example_inputs with a batch of two")
    )


def _columns(layer: torch.nn.Module, path: str) -> int:
    """Return the width of what the linear layer at `path` reads."""
    return int(layer.get_submodule(path).in_features)  # type: ignore[arg-type]
