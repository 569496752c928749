"""A request's payload in one piece, as servers get it."""

from __future__ import annotations

from collections.abc import Sequence

from hecompile.backends.bfv.messages import FIRST, LayerSizes, core_layout, layer_sizes
from hecompile.backends.bfv.program import LayerProgram
from hecompile.backends.region_client import Pending, RegionClient, Secrets
from hecompile.ir.halves import Array


def encrypt_whole(
    client: RegionClient, values: Sequence[Array], batch: int, secrets: Secrets | None = None
) -> tuple[bytes, Pending]:
    """What `encrypt` gives, its parts joined."""
    parts, pending = client.encrypt(values, batch, secrets)
    return b"".join(parts), pending


def sizes(layer: LayerProgram, batch: int, mode: int = FIRST) -> LayerSizes:
    """Bytes of a layer's part of a request of `bfv` and its reply."""
    return layer_sizes(layer, core_layout(layer, batch), batch, mode)
