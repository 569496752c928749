"""The options of `concrete_lookups`, beside those of all regions of Concrete."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LookupOptions"]


@dataclass(frozen=True)
class LookupOptions:
    """What a region with lookups may lose and cost."""

    lookup_db: float = 25.0  # least PSNR of a region against float32
    lookup_seconds: float = 180.0  # most predicted CPU seconds of a region
    lookup_key_mib: float = 2048.0  # most MiB of a region's evaluation keys
