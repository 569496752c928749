"""`Pass`, the base class of passes, for passes of your own; it is defined in `hecompile.ir.passes`."""

from __future__ import annotations

from hecompile.ir.passes import Pass

__all__ = ["Pass"]
