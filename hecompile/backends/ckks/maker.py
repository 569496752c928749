"""The build of SEAL in TenSEAL, from the extra `ckks`, which makes a client's keys. Without it `MissingExtraError` is raised."""

from __future__ import annotations

from hecompile.errors import needing

with needing("backend 'ckks'", "ckks"):
    import tenseal.sealapi as maker

__all__ = ["maker"]
