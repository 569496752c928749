"""A vector of slots under way through an engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Value"]


@dataclass(frozen=True, eq=False)
class Value:
    """A vector of slots under way. `data` is the engine's own."""

    level: int
    scale: float
    parts: int  # polynomials of the ciphertext: 2, or 3 between a product and its relinearization
    data: Any
