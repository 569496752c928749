"""What the client's half of linear layers holds under any backend: scales and biases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from hecompile.errors import ProtocolError
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.halves import Array, Half
from hecompile.ir.linear import Geometry
from hecompile.ir.products import LARGEST, Part, Readout

__all__ = ["LinearLayer", "readouts", "tensor_of"]


def tensor_of(half: Half, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> Array:
    """A tensor of a half. Raises `ProtocolError` unless it has this type and shape."""
    tensor = half.tensors.get(name)
    if tensor is None or tensor.dtype != dtype or tensor.shape != shape:
        found = "missing" if tensor is None else f"{tensor.dtype} {tensor.shape}"
        raise ProtocolError(f"tensor '{name}' is {found}, expected {np.dtype(dtype)} {shape}")
    return tensor


class LinearLayer(Protocol):
    """What a client reads of a layer under any backend."""

    @property
    def input(self) -> str: ...
    @property
    def geometry(self) -> Geometry: ...
    @property
    def parts(self) -> tuple[Part, ...]: ...
    @property
    def split(self) -> ChannelSplit: ...


def readouts(half: Half, region: str, layers: Sequence[LinearLayer]) -> list[Readout]:
    """The client's scales and biases, layer by layer."""
    result = []
    if set(half.tensors) != {f"{index}.{name}" for index in range(len(layers)) for name in ("scales", "bias")}:
        raise ProtocolError(f"region '{region}': tensors that its layers do not have")
    for index, layer in enumerate(layers):
        scales = tensor_of(half, f"{index}.scales", np.float64, (layer.geometry.rows,))
        bias = tensor_of(half, f"{index}.bias", np.float32, (layer.geometry.outputs,))
        if not ((np.abs(scales) <= LARGEST).all() and np.isfinite(bias).all()):
            raise ProtocolError(f"region '{region}': scales or biases are not finite")
        result.append(Readout(layer.input, layer.geometry, layer.parts, scales, bias, layer.split))
    return result
