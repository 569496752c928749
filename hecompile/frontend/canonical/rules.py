"""Imports every file of rules, which registers them: `RULES`."""

from __future__ import annotations

from hecompile.frontend.canonical import (  # noqa: F401  (they register theirs)
    activations,
    arithmetic,
    convolutions,
    einsum,
    filled,
    linear,
    mixing,
    moves,
    padding,
    places,
    pools,
    refusals,
    resizing,
    statistics,
)
from hecompile.frontend.canonical.rewrites import RULES, keep

__all__ = ["RULES", "keep"]
