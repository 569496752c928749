"""Values that the server holds in part as ciphertexts: public indices, encrypted values, the rest in clear.

The indices are channels, the same for all inputs. Through a linear layer an output channel is encrypted if any encrypted channel
has a weight in it; with the others the server computes on what it sees anyway.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hecompile.ir.linear import Array, Geometry

__all__ = ["Coo"]


@dataclass(frozen=True)
class Coo:
    """Which of a value's channels are encrypted."""

    encrypted: tuple[int, ...]
    channels: int

    def through(self, geometry: Geometry, weights: Array) -> Coo:
        """The output of a layer with weights (rows, C', K) whose input this is: the channels that depend on an encrypted one."""
        each = geometry.down[0] * geometry.down[1]
        read = np.abs(weights).sum(axis=2).reshape(geometry.rows, self.channels, each).sum(axis=2)  # (rows, C)
        rows = read[:, list(self.encrypted)].any(axis=1)
        outputs = rows.reshape(geometry.outputs, -1).any(axis=1)
        return Coo(tuple(int(channel) for channel in np.flatnonzero(outputs)), geometry.outputs)

    def __str__(self) -> str:
        return f"coo<{len(self.encrypted)} of {self.channels} encrypted>"
