"""The arrays of a half, each judged by its type and shape before anything is computed with it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from hecompile.errors import ProtocolError
from hecompile.ir.halves import Array, Half

__all__ = ["judge_names", "tensor_of"]


def tensor_of(half: Half, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> Array:
    """A tensor of a half. Raises `ProtocolError` unless it has this type and shape."""
    tensor = half.tensors.get(name)
    if tensor is None or tensor.dtype != dtype or tensor.shape != shape:
        found = "missing" if tensor is None else f"{tensor.dtype} {tensor.shape}"
        raise ProtocolError(f"tensor '{name}' is {found}, expected {np.dtype(dtype)} {shape}")
    return tensor


def judge_names(half: Half, names: Iterable[str]) -> None:
    """Raises `ProtocolError` unless the half has tensors of these names and no others."""
    if wrong := set(half.tensors) ^ set(names):
        raise ProtocolError(f"region '{half.program.get('region')}': tensors are missing, or are none of its own: {min(wrong)}")
