"""Partly encrypted values in coordinate form (COO): a public list of the encrypted channels or places; the rest is revealed.

The list is the same for all inputs. After a linear layer, an output channel is encrypted if it has a weight for any encrypted
channel. An output place is encrypted if a tap with a weight reaches an encrypted place from there. All other outputs depend on
revealed entries alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from hecompile.ir.linear import Array, Geometry, correlate

__all__ = ["Coo"]


@dataclass(frozen=True)
class Coo:
    """The numbers of a value's encrypted channels; or of encrypted places of its picture, counted row by row, over all channels."""

    encrypted: tuple[int, ...]
    count: int  # of channels, or of places, encrypted and revealed
    axis: Literal["channels", "places"] = "channels"

    def through(self, geometry: Geometry, weights: Array) -> Coo:
        """Return which outputs of a layer with weights (rows, C', K) depend on encrypted entries, if this describes the layer's
        input."""
        return self._places(geometry, weights) if self.axis == "places" else self._channels(geometry, weights)

    def _channels(self, geometry: Geometry, weights: Array) -> Coo:
        per_channel = geometry.down[0] * geometry.down[1]
        read = np.abs(weights).sum(axis=2).reshape(geometry.rows, self.count, per_channel).sum(axis=2)  # (rows, C)
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
