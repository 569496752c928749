"""How the channels of a layer's input reach the server: encrypted, released (rounded, in clear), or not at all.

A layer with absent channels has only zeros for weights there. Released integers are multiples of a step of the quantiser, so that
they have at most `bits` bits and always one less than what is encrypted has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hecompile.errors import ProtocolError
from hecompile.ir.linear import Array, Geometry

__all__ = ["REVEAL_BITS", "ChannelSplit"]

REVEAL_BITS = (2, 11)  # least and most of a released integer; the quantiser of what is encrypted has at most 12


@dataclass(frozen=True)
class ChannelSplit:
    """Channels of a tensor, not of its picture. Those that are neither released nor absent are encrypted: at least one."""

    channels: int
    released: tuple[int, ...] = ()
    absent: tuple[int, ...] = ()
    bits: int = 8  # of a released integer

    def __post_init__(self) -> None:
        named = (*self.released, *self.absent)
        if self.channels < 1 or len(set(named)) != len(named) or any(not 0 <= channel < self.channels for channel in named):
            raise ProtocolError(f"channels: {self.released} and {self.absent} of {self.channels} do not fit together")
        if len(named) == self.channels:
            raise ProtocolError("channels: none is encrypted")
        if self.released and not REVEAL_BITS[0] <= self.bits <= REVEAL_BITS[1]:
            raise ProtocolError(f"channels: released with {self.bits} bits, not {REVEAL_BITS[0]} to {REVEAL_BITS[1]}")

    @property
    def whole(self) -> bool:
        """Whether every channel is encrypted."""
        return not self.released and not self.absent

    @cached_property
    def encrypted(self) -> tuple[int, ...]:
        left_out = {*self.released, *self.absent}
        return tuple(channel for channel in range(self.channels) if channel not in left_out)

    def places(self, channels: tuple[int, ...], geometry: Geometry) -> npt.NDArray[np.int64]:
        """The channels of the picture that these channels of the tensor became."""
        each = geometry.down[0] * geometry.down[1]
        return (np.array(channels, np.int64)[:, None] * each + np.arange(each)).reshape(-1)

    def encrypted_of(self, picture: Array, geometry: Geometry) -> Array:
        """The encrypted channels of anything (E, C', ...) or (rows, C', ...)."""
        return picture if self.whole else picture[:, self.places(self.encrypted, geometry)]

    def released_of(self, picture: Array, geometry: Geometry) -> Array:
        """The released channels of the same."""
        return picture[:, self.places(self.released, geometry)]

    def encrypted_geometry(self, geometry: Geometry) -> Geometry:
        """The convolution of the encrypted channels alone."""
        return geometry if self.whole else replace(geometry, channels=len(self.encrypted))

    def steps(self, limit: int) -> tuple[int, int]:
        """For a quantiser of this limit: quantiser steps per released step, and the largest released integer."""
        step = 2
        while limit // step > 2 ** (self.bits - 1) - 1:
            step *= 2
        return step, limit // step

    def round(self, released: Array, limit: int) -> npt.NDArray[np.int64]:
        """Quantised entries -> the integers that are shown: (..., any)."""
        step, most = self.steps(limit)
        shown: npt.NDArray[np.int64] = np.clip(np.rint(released / step), -most, most).astype(np.int64)
        return shown

    def seen(self, picture: npt.NDArray[np.int64], geometry: Geometry, limit: int) -> npt.NDArray[np.int64]:
        """The quantised picture (E, C', H, W) as the layer gets it: released channels rounded."""
        if not self.released:
            return picture
        places, result = self.places(self.released, geometry), picture.copy()
        result[:, places] = self.round(picture[:, places], limit) * self.steps(limit)[0]
        return result

    def errors(self, geometry: Geometry, limit: int) -> npt.NDArray[np.float64]:
        """How far each channel of the picture may be from the value before quantising, in quantiser steps: (C')."""
        result = np.full(geometry.picture[0], 0.5)
        if self.released:
            result[self.places(self.released, geometry)] += self.steps(limit)[0]  # half a step, a whole one at the limit
        return result

    def __str__(self) -> str:
        if self.whole:
            return f"{self.channels} channels encrypted"
        parts = [f"{len(self.encrypted)} of {self.channels} channels encrypted"]
        parts += [f"{len(self.released)} released at {self.bits} bits"] if self.released else []
        parts += [f"{len(self.absent)} absent"] if self.absent else []
        return ", ".join(parts)
