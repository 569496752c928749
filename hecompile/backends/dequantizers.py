"""The scales and biases that a client's half holds for linear layers, under any backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from hecompile.backends.tensors import tensor_of
from hecompile.errors import ProtocolError
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.dequantizer import LARGEST, Dequantizer
from hecompile.ir.halves import Half
from hecompile.ir.linear import Geometry, Part

__all__ = ["LinearLayer", "dequantizers"]


class LinearLayer(Protocol):
    """What a client needs to know of a layer, under any backend."""

    @property
    def input(self) -> str: ...
    @property
    def geometry(self) -> Geometry: ...
    @property
    def parts(self) -> tuple[Part, ...]: ...
    @property
    def split(self) -> ChannelSplit: ...


def dequantizers(half: Half, region: str, layers: Sequence[LinearLayer]) -> list[Dequantizer]:
    """The dequantizer of every layer. Raises `ProtocolError` if tensors are missing, too many, or not finite."""
    result = []
    if set(half.tensors) != {f"{index}.{name}" for index in range(len(layers)) for name in ("scales", "bias")}:
        raise ProtocolError(f"region '{region}': tensors that its layers do not have")
    for index, layer in enumerate(layers):
        scales = tensor_of(half, f"{index}.scales", np.float64, (layer.geometry.rows,))
        bias = tensor_of(half, f"{index}.bias", np.float32, (layer.geometry.outputs,))
        if not ((np.abs(scales) <= LARGEST).all() and np.isfinite(bias).all()):
            raise ProtocolError(f"region '{region}': scales or biases are not finite")
        result.append(Dequantizer(layer.input, layer.geometry, layer.parts, scales, bias, layer.split))
    return result
