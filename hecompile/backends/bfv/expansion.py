"""What the key of a layer's `a` depends on (wire format: docs/cryptography.md has it whole, with test vectors)."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

from hecompile.backends.program_io import Document

__all__ = ["context_of"]

_DOMAIN = b"hecompile bfv a v1"


def context_of(document: Document[Any], layer: int) -> bytes:
    """Domain, document, region and layer, each of variable size with its length; the core adds group and seed, and hashes."""
    digest = hashlib.sha256(json.dumps(document.as_json(), sort_keys=True, separators=(",", ":")).encode()).digest()
    region = document.region.encode()
    return _DOMAIN + struct.pack("<I", len(digest)) + digest + struct.pack("<I", len(region)) + region + struct.pack("<I", layer)
