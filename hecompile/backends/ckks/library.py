"""SEAL, from the package `seal-python` of the extra `ckks`. Importing this without it raises `MissingExtraError`."""

from __future__ import annotations

from hecompile.errors import needing

with needing("backend 'ckks'", "ckks"):
    import seal

__all__ = ["seal"]
