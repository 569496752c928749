"""The server's half of linear layers under `bfv` and `clear`: int8 weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hecompile.backends.bfv.program import RegionProgram
from hecompile.backends.tensors import judge_names, tensor_of
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.halves import Half

__all__ = ["LayerWeights", "weights_of"]


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """The server's weights of a layer (rows, channels, K): for the encrypted channels of the picture and for the released ones.

    With tiles all channels are among the encrypted ones.
    """

    encrypted: npt.NDArray[np.int8]
    released: npt.NDArray[np.int8]

    def shown(self, split: ChannelSplit) -> npt.NDArray[np.int8]:
        """Those that meet what is released."""
        return self.encrypted if split.tiles else self.released

    @property
    def row_norm(self) -> int:
        """The largest sum of |weights| of a row."""
        norms = sum(np.abs(part.astype(np.int64)).sum(axis=(1, 2)) for part in (self.encrypted, self.released))
        return int(np.max(norms, initial=0))


def weights_of(half: Half, program: RegionProgram) -> list[LayerWeights]:
    """The server's weights, layer by layer."""
    result, shown = [], [f"{index}.released" for index, layer in enumerate(program.body.layers) if layer.split.released]
    judge_names(half, [*shown, *(f"{index}.weights" for index in range(len(program.body.layers)))])
    for index, layer in enumerate(program.body.layers):
        geometry, each = layer.geometry, layer.geometry.down[0] * layer.geometry.down[1]
        shapes = [(geometry.rows, len(part) * each, len(geometry.taps)) for part in (layer.split.encrypted, layer.split.released)]
        encrypted = tensor_of(half, f"{index}.weights", np.int8, shapes[0])
        has_released = bool(layer.split.released)
        released = tensor_of(half, f"{index}.released", np.int8, shapes[1]) if has_released else np.zeros(shapes[1], np.int8)
        result.append(LayerWeights(encrypted, released))
    return result
