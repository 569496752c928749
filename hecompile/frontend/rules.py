"""Every rule of canonicalization, registered: `RULES`."""

from __future__ import annotations

from hecompile.frontend import arithmetic, einsum, linear, moves, statistics  # noqa: F401  (they register theirs)
from hecompile.frontend.rewrites import RULES, keep

__all__ = ["RULES", "keep"]
