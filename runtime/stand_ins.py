"""Parts of a UNet that pipelines of diffusers look at without calling them, as stand-ins made from the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from hecompile.errors import ProtocolError

__all__ = ["stand_ins"]

MOST_PROJECTIONS = 64  # a manifest may come from anybody


def stand_ins(config: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes by name.

    `add_embedding.linear_1.in_features`: SDXL's pipelines check the length of their time ids by it. The list
    `encoder_hid_proj.image_projection_layers`: with an IP-Adapter they count it, and ask which layers take pooled embeddings.
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
    """An image projection of the same kind, as far as pipelines tell kinds apart."""
    from diffusers.models.embeddings import ImageProjection

    return ImageProjection(1, 1, 1) if kind == "ImageProjection" else SimpleNamespace()
