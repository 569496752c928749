"""The text that a layer's `a` is derived from, beside its seed. docs/cryptography.md has the derivation, with test vectors."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

from hecompile.backends.program_io import Document

__all__ = ["contexts"]

_DOMAIN = b"hecompile bfv a v1"


def contexts(document: Document[Any], layers: int) -> list[bytes]:
    """For each layer the bytes that name it: domain, digest of the document, region, layer number, with lengths where they vary.

    The core appends the group of blocks and the seed, and hashes.
    """
    digest = hashlib.sha256(json.dumps(document.as_json(), sort_keys=True, separators=(",", ":")).encode()).digest()
    fields = b"".join(struct.pack("<I", len(field)) + field for field in (digest, document.region.encode()))
    return [_DOMAIN + fields + struct.pack("<I", layer) for layer in range(layers)]
