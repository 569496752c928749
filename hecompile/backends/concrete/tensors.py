"""Tensors of bytes in halves."""

from __future__ import annotations

import numpy as np

from hecompile.errors import ProtocolError
from hecompile.ir.halves import Half

__all__ = ["bytes_of"]


def bytes_of(half: Half, name: str) -> bytes:
    """A tensor of bytes. Raises `ProtocolError` if it is none, or empty."""
    tensor = half.tensors.get(name)
    if tensor is None or tensor.dtype != np.uint8 or tensor.ndim != 1 or not tensor.size:
        raise ProtocolError(f"tensor '{name}' is missing, empty or no bytes")
    return tensor.tobytes()
