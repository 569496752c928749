"""A request's payload in one piece, as servers get it."""

from __future__ import annotations

from collections.abc import Sequence

from hecompile.backends.region_client import Pending, RegionClient, Secrets
from hecompile.ir.halves import Array


def encrypt_whole(
    client: RegionClient, values: Sequence[Array], batch: int, secrets: Secrets | None = None
) -> tuple[bytes, Pending]:
    """What `encrypt` gives, its parts joined."""
    parts, pending = client.encrypt(values, batch, secrets)
    return b"".join(parts), pending
