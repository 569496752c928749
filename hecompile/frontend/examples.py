"""Example inputs for the UNets of diffusers, read off their configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["unet_inputs"]

BATCH, TOKENS = 2, 77
HINT_CHANNELS, HINT_SCALE = 4, 8  # of Kandinsky's ControlNet: a picture, made eight times smaller


def unet_inputs(unet: torch.nn.Module) -> dict[tuple[str, ...], torch.Tensor]:
    """One call with a batch of two; random where a zero could hide a path. Prompts have 77 tokens, as CLIP's do."""
    import torch

    config: Any = unet.config
    generator = torch.Generator().manual_seed(0)
    parameter = next(unet.parameters())

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(parameter.device)

    size = config.sample_size or 32
    height, width = size if isinstance(size, list | tuple) else (size, size)
    conditional = "cross_attention_dim" in config
    hinted = conditional and config.addition_embed_type == "image_hint"
    channels = config.in_channels - (HINT_CHANNELS if hinted else 0)  # the hint is stacked onto the sample
    learned = config.time_embedding_type == "learned"  # a table, looked up by whole steps
    inputs: dict[tuple[str, ...], torch.Tensor] = {
        ("sample",): random(BATCH, channels, height, width),
        ("timestep",): torch.tensor(min(481, config.num_train_timesteps - 1)) if learned else torch.tensor(481.5),
    }
    if conditional:
        inputs |= _condition(config, random)
    if hinted:
        inputs[("added_cond_kwargs", "hint")] = random(BATCH, 3, height * HINT_SCALE, width * HINT_SCALE)
    if conditional and config.time_cond_proj_dim is not None:
        inputs[("timestep_cond",)] = random(BATCH, config.time_cond_proj_dim)
    if getattr(unet, "class_embedding", None) is not None:
        inputs[("class_labels",)] = _labels(config, random)
    return {key: value.to(parameter.device) for key, value in inputs.items()}


def _condition(config: Any, random: Any) -> dict[tuple[str, ...], torch.Tensor]:
    """The prompt, and what goes beside it: Kandinsky's pictures, SDXL's pooled prompt and sizes."""
    import torch

    cross = config.cross_attention_dim
    cross = cross if isinstance(cross, int) else max(cross)
    kind, projected = config.addition_embed_type, config.encoder_hid_dim_type
    inputs: dict[tuple[str, ...], torch.Tensor] = {}
    if projected != "image_proj":  # there the picture stands for the prompt
        inputs[("encoder_hidden_states",)] = random(BATCH, TOKENS, config.encoder_hid_dim or cross)
    if kind == "text_time":
        time_ids = torch.tensor([[64.0, 64, 0, 0, 64, 64]] * BATCH)
        pooled = config.projection_class_embeddings_input_dim - time_ids.shape[1] * config.addition_time_embed_dim
        inputs[("added_cond_kwargs", "text_embeds")] = random(BATCH, pooled)
        inputs[("added_cond_kwargs", "time_ids")] = time_ids
    if kind == "text_image":
        inputs[("added_cond_kwargs", "text_embeds")] = random(BATCH, cross)
    if kind == "text_image" or projected == "text_image_proj":
        inputs[("added_cond_kwargs", "image_embeds")] = random(BATCH, cross)
    elif kind in ("image", "image_hint") or projected == "image_proj":
        inputs[("added_cond_kwargs", "image_embeds")] = random(BATCH, config.encoder_hid_dim)
    return inputs


def _labels(config: Any, random: Any) -> torch.Tensor:
    """Class labels as the configured embedding wants them."""
    import torch

    kind = config.class_embed_type
    if kind is None:
        return torch.arange(BATCH) % int(config.num_class_embeds)
    if kind == "timestep":
        return torch.tensor([3.0, 7.0])
    if kind == "identity":
        multiplier = config.time_embedding_dim or config.block_out_channels[0] * 4
        labels: torch.Tensor = random(BATCH, multiplier)
        return labels
    projected: torch.Tensor = random(BATCH, config.projection_class_embeddings_input_dim)
    return projected
