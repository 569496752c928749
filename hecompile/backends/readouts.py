"""What the client's half of linear layers holds under any backend: scales and biases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from hecompile.backends.tensors import tensor_of
from hecompile.errors import ProtocolError
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.halves import Half
from hecompile.ir.linear import Geometry, Part
from hecompile.ir.readout import LARGEST, Readout

__all__ = ["LinearLayer", "readouts"]


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
