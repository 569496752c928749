"""The options of the `concrete_lookups` backend."""

from __future__ import annotations

from dataclasses import dataclass

from hecompile.backends.concrete.options import ConcreteOptions
from hecompile.panels import option

__all__ = ["LookupOptions"]


@dataclass(frozen=True)
class LookupOptions(ConcreteOptions):
    """How exact a region with table lookups must be, and what it may cost."""

    lookup_db: float = option(25.0, help="least PSNR of a region against float32, in dB")
    lookup_seconds: float = option(180.0, help="largest predicted CPU seconds of a region", above=0)
    lookup_key_mib: float = option(2048.0, help="largest size of a region's evaluation keys in MiB", above=0)
