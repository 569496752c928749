"""The options of `ckks` and its simulation."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CkksOptions"]


@dataclass(frozen=True)
class CkksOptions:
    """What may be chosen for regions under `ckks`."""

    key_mib: float | None = None  # most MiB of a region's keys, for more rotations
