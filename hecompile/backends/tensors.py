"""Reads the tensors of a half. Type and shape are checked before anything is computed with them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array, Half

__all__ = ["check_names", "tensor_of"]


def tensor_of(half: Half, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> Array:
    """The tensor of this name. Raises `ProtocolError` unless it has this type and shape."""
    tensor = half.tensors.get(name)
    if tensor is None or tensor.dtype != dtype or tensor.shape != shape:
        actual = "missing" if tensor is None else f"{tensor.dtype} {tensor.shape}"
        raise ProtocolError(f"tensor '{name}' is {actual}, expected {np.dtype(dtype)} {shape}")
    return tensor


def check_names(half: Half, names: Iterable[str]) -> None:
    """Raises `ProtocolError` unless the half has tensors of exactly these names."""
    if wrong := set(half.tensors) ^ set(names):
        raise ProtocolError(f"region '{half.program.get('region')}': tensors are missing or unknown, such as '{min(wrong)}'")
