"""What a lowered region is on disk: a client's half and a server's half, each a JSON document and named arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

__all__ = ["Array", "ClientHalf", "Half", "ServerHalf"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Half:
    """What both halves have: a JSON document, the same in both, and named arrays."""

    program: Mapping[str, object]
    tensors: Mapping[str, Array]


@dataclass(frozen=True)
class ClientHalf(Half):
    """The client's half: no weights."""


@dataclass(frozen=True)
class ServerHalf(Half):
    """The server's half: weights, and no field for a secret key."""
