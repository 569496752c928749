"""The int8 weights that a server's half holds for the layers of `bfv` and `clear`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hecompile.backends.bfv.program import RegionProgram
from hecompile.backends.tensors import check_names, tensor_of
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.halves import Half

__all__ = ["LayerWeights", "weights_of"]


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """A layer's weights (rows, channels, K) at the server, for encrypted and for revealed channels of the picture.

    With tiles, all channels are among the encrypted ones.
    """

    encrypted: npt.NDArray[np.int8]
    revealed: npt.NDArray[np.int8]

    def for_revealed(self, split: ChannelSplit) -> npt.NDArray[np.int8]:
        """The weights that revealed entries are multiplied by."""
        return self.encrypted if split.tiles else self.revealed

    @property
    def row_norm(self) -> int:
        """The largest sum of |weights| of a row, over all channels."""
        norms = sum(np.abs(part.astype(np.int64)).sum(axis=(1, 2)) for part in (self.encrypted, self.revealed))
        return int(np.max(norms, initial=0))


def weights_of(half: Half, program: RegionProgram) -> list[LayerWeights]:
    """The weights of every layer of a server's half. Raises `ProtocolError` if tensors are missing, or of another type or shape."""
    result, names = [], [f"{index}.revealed" for index, layer in enumerate(program.body.layers) if layer.split.revealed]
    check_names(half, [*names, *(f"{index}.weights" for index in range(len(program.body.layers)))])
    for index, layer in enumerate(program.body.layers):
        geometry, phases = layer.geometry, layer.geometry.down[0] * layer.geometry.down[1]
        shapes = [(geometry.rows, len(part) * phases, len(geometry.taps)) for part in (layer.split.encrypted, layer.split.revealed)]
        encrypted = tensor_of(half, f"{index}.weights", np.int8, shapes[0])
        has_revealed = bool(layer.split.revealed)
        revealed = tensor_of(half, f"{index}.revealed", np.int8, shapes[1]) if has_revealed else np.zeros(shapes[1], np.int8)
        result.append(LayerWeights(encrypted, revealed))
    return result
