"""The two halves of a lowered region as files hold them: one for the client, one for the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

__all__ = ["Array", "ClientHalf", "Half", "ServerHalf"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Half:
    """One half of a lowered region: a JSON document, which is the same in both halves, and arrays by name."""

    program: Mapping[str, object]
    tensors: Mapping[str, Array]


@dataclass(frozen=True)
class ClientHalf(Half):
    """The half that the client loads. It holds scales and biases, but no weights."""


@dataclass(frozen=True)
class ServerHalf(Half):
    """The half that the server loads. It holds the weights, and has no place for a secret key."""
