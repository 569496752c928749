"""What a pass is (`hecompile.ir.passes`), for passes of your own."""

from __future__ import annotations

from hecompile.ir.passes import Pass

__all__ = ["Pass"]
