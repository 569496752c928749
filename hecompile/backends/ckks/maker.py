"""TenSEAL's build of SEAL, from the extra `ckks`, which makes a client's keys.

Importing this without it raises `MissingExtraError`.
"""

from __future__ import annotations

from hecompile.errors import needing

with needing("backend 'ckks'", "ckks"):
    import tenseal.sealapi as maker

__all__ = ["maker"]
