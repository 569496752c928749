"""Reads tensors of bytes from halves."""

from __future__ import annotations

import numpy as np

from hecompile.errors import ProtocolError
from hecompile.ir.halves import Half

__all__ = ["bytes_of"]


def bytes_of(half: Half, name: str) -> bytes:
    """The bytes of a tensor of a half. Raises `ProtocolError` if it is missing, empty, or not of bytes."""
    tensor = half.tensors.get(name)
    if tensor is None or tensor.dtype != np.uint8 or tensor.ndim != 1 or not tensor.size:
        raise ProtocolError(f"tensor '{name}' is missing, empty or not of bytes")
    return tensor.tobytes()
