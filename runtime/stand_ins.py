"""Stand-ins for parts of a UNet that diffusers' pipelines inspect without calling them, made from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from hecompile.errors import ProtocolError

__all__ = ["stand_ins"]

MOST_PROJECTIONS = 64  # bounds what a manifest, which may come from anybody, makes us build


def stand_ins(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes by name.

    `add_embedding.linear_1.in_features`: SDXL's pipelines check the length of their time ids against it. The list
    `encoder_hid_proj.image_projection_layers`: with an IP-Adapter, pipelines count it and ask which layers take pooled embeddings.
    """
    parts: dict[str, Any] = {}
    width = config.get("projection_class_embeddings_input_dim")
    if config.get("addition_embed_type") == "text_time" and isinstance(width, int):
        parts["add_embedding"] = SimpleNamespace(linear_1=SimpleNamespace(in_features=width))
    kinds = config.get("image_projections")
    if isinstance(kinds, list | tuple):
        if len(kinds) > MOST_PROJECTIONS:
            raise ProtocolError(f"the configuration lists {len(kinds)} image projections")
        parts["encoder_hid_proj"] = SimpleNamespace(image_projection_layers=[_projection(str(kind)) for kind in kinds])
    return parts


def _projection(kind: str) -> object:
    """Return an image projection that pipelines take for one of this kind."""
    from diffusers.models.embeddings import ImageProjection

    return ImageProjection(1, 1, 1) if kind == "ImageProjection" else SimpleNamespace()
