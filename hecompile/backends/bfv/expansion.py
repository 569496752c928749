"""What the key of a layer's `a` depends on (wire format: docs/cryptography.md has it whole, with test vectors)."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

from hecompile.backends.program_io import Document

__all__ = ["contexts"]

_DOMAIN = b"hecompile bfv a v1"


def contexts(document: Document[Any], layers: int) -> list[bytes]:
    """For each layer: domain, digest of the document, region and layer, what varies in size with its length.

    The core adds the group of blocks and the seed, and hashes.
    """
    digest = hashlib.sha256(json.dumps(document.as_json(), sort_keys=True, separators=(",", ":")).encode()).digest()
    fields = b"".join(struct.pack("<I", len(field)) + field for field in (digest, document.region.encode()))
    return [_DOMAIN + fields + struct.pack("<I", layer) for layer in range(layers)]
