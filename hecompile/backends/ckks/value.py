"""The values that an engine works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Value"]


@dataclass(frozen=True, eq=False)
class Value:
    """A vector of slots with its level and scale. What `data` is depends on the engine: a ciphertext, an array, or an error."""

    level: int
    scale: float
    parts: int  # polynomials of the ciphertext: 2, or 3 between a product and its relinearization
    data: Any
