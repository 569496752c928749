"""Values that the server holds in part as ciphertexts: public indices, encrypted values, the rest in clear.

The indices are channels, or places of the picture, the same for all inputs. Through a linear layer an output channel is encrypted
if any encrypted channel has a weight in it, an output place if a tap with a weight reaches an encrypted place from there
(dilation); with the others the server computes on what it sees anyway.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hecompile.ir.linear import Array, Geometry, correlate

__all__ = ["Coo"]


@dataclass(frozen=True)
class Coo:
    """Which of a value's channels are encrypted, or which places (row by row) of all its channels."""

    encrypted: tuple[int, ...]
    count: int  # of all channels, or places
    axis: Literal["channels", "places"] = "channels"

    def through(self, geometry: Geometry, weights: Array) -> Coo:
        """The output of a layer with weights (rows, C', K) whose input this is: what depends on something encrypted."""
        return self._places(geometry, weights) if self.axis == "places" else self._channels(geometry, weights)

    def _channels(self, geometry: Geometry, weights: Array) -> Coo:
        each = geometry.down[0] * geometry.down[1]
        read = np.abs(weights).sum(axis=2).reshape(geometry.rows, self.count, each).sum(axis=2)  # (rows, C)
        rows = read[:, list(self.encrypted)].any(axis=1)
        outputs = rows.reshape(geometry.outputs, -1).any(axis=1)
        return Coo(tuple(int(channel) for channel in np.flatnonzero(outputs)), geometry.outputs)

    def _places(self, geometry: Geometry, weights: Array) -> Coo:
        mask = np.zeros((1, 1, self.count))
        mask[..., list(self.encrypted)] = 1
        single = replace(geometry, tokens=False, channels=1, outputs=1)  # all channels have the same places
        phases = (geometry.outputs, single.rows, geometry.channels, single.picture[0], len(geometry.taps))
        read = np.abs(weights).reshape(phases).sum(axis=(0, 2))
        reached = correlate(single.to_picture(mask.reshape(1, 1, *geometry.size)), read, geometry.taps, geometry.grid)
        output = single.from_picture(reached, ())
        return Coo(tuple(int(place) for place in np.flatnonzero(output)), output.size, "places")

    def __str__(self) -> str:
        return f"coo<{len(self.encrypted)} of {self.count}{' places' if self.axis == 'places' else ''} encrypted>"
