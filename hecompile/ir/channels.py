"""How a layer's input reaches the server: channels encrypted, released (rounded, in clear), or not at all; or tiles of its picture.

A layer with absent channels has only zeros for weights there. Released integers are multiples of a step of the quantiser, so that
they have at most `bits` bits and always one less than what is encrypted has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hecompile.errors import ProtocolError
from hecompile.ir.linear import MOST_CHANNELS, Array, Geometry
from hecompile.ir.tiles import Tiles

__all__ = ["REVEAL_BITS", "ChannelSplit"]

REVEAL_BITS = (2, 11)  # least and most of a released integer; the quantiser of what is encrypted has at most 12


@dataclass(frozen=True)
class ChannelSplit:
    """Channels of a tensor, not of its picture. Those that are neither released nor absent are encrypted: at least one.

    With `tiles` no channel is released; of the channels that are not absent those tiles are encrypted and the others released.
    """

    channels: int
    released: tuple[int, ...] = ()
    absent: tuple[int, ...] = ()
    bits: int = 8  # of a released integer
    tiles: Tiles | None = None

    def __post_init__(self) -> None:
        named = (*self.released, *self.absent)
        known = all(0 <= channel < self.channels for channel in named)
        if not 1 <= self.channels <= MOST_CHANNELS or len(set(named)) != len(named) or not known:
            raise ProtocolError(f"channels: {self.released} and {self.absent} of {self.channels} do not fit together")
        if len(named) == self.channels:
            raise ProtocolError("channels: none is encrypted")
        if self.released and self.tiles:
            raise ProtocolError("channels: released whole and by tiles at once")
        if self.shows and not REVEAL_BITS[0] <= self.bits <= REVEAL_BITS[1]:
            raise ProtocolError(f"channels: released with {self.bits} bits, not {REVEAL_BITS[0]} to {REVEAL_BITS[1]}")

    @property
    def whole(self) -> bool:
        """Whether everything is encrypted."""
        return not self.shows and not self.absent

    @property
    def shows(self) -> bool:
        """Whether anything is released."""
        return bool(self.released) or self.tiles is not None

    @property
    def slots(self) -> int:
        """Pictures that are encrypted per picture of the value: its tiles, or itself."""
        return len(self.tiles.encrypted) if self.tiles else 1

    @cached_property
    def encrypted(self) -> tuple[int, ...]:
        left_out = {*self.released, *self.absent}
        return tuple(channel for channel in range(self.channels) if channel not in left_out)

    def places(self, channels: tuple[int, ...], geometry: Geometry) -> npt.NDArray[np.int64]:
        """The channels of the picture that these channels of the tensor became."""
        each = geometry.down[0] * geometry.down[1]
        return (np.array(channels, np.int64)[:, None] * each + np.arange(each)).reshape(-1)

    def encrypted_of(self, picture: Array, geometry: Geometry) -> Array:
        """The channels of which something is encrypted, of anything (E, C', ...) or (rows, C', ...)."""
        return picture[:, self.places(self.encrypted, geometry)] if self.released or self.absent else picture

    def released_of(self, picture: Array, geometry: Geometry) -> Array:
        """The released channels of the same; with tiles the channels of which something is released."""
        return self.encrypted_of(picture, geometry) if self.tiles else picture[:, self.places(self.released, geometry)]

    def sent(self, picture: Array, geometry: Geometry) -> Array:
        """What is encrypted of pictures (E, C', H, W): (E slots, channels, h, w)."""
        chosen = self.encrypted_of(picture, geometry)
        return self.tiles.cut(chosen, self.tiles.encrypted) if self.tiles else chosen

    def shown(self, picture: Array, geometry: Geometry) -> Array:
        """What is released of them: (E, channels, H, W), with tiles (E tiles, channels, h, w)."""
        chosen = self.released_of(picture, geometry)
        return self.tiles.cut(chosen, self.tiles.released) if self.tiles else chosen

    def shown_shape(self, geometry: Geometry, elements: int) -> tuple[int, int, int, int]:
        """The shape of the same."""
        channels, _, height, width = (len(self.places(self.shown_channels, geometry)), *geometry.picture)
        if self.tiles is None:
            return elements, channels, height, width
        return (elements * len(self.tiles.released), channels, *self.tiles.block(geometry))

    @property
    def shown_channels(self) -> tuple[int, ...]:
        """Channels of the tensor of which something is released."""
        return self.encrypted if self.tiles else self.released

    def encrypted_share(self, geometry: Geometry) -> float:
        """The share of a value's entries that is not released."""
        shown = self.shown_shape(geometry, 1)
        channels, height, width = geometry.picture
        return 1 - shown[0] * shown[1] * shown[2] * shown[3] / (channels * height * width)

    def encrypted_geometry(self, geometry: Geometry) -> Geometry:
        """The convolution of what is encrypted alone."""
        geometry = geometry if len(self.encrypted) == self.channels else replace(geometry, channels=len(self.encrypted))
        return self.tiles.geometry(geometry) if self.tiles else geometry

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
        if self.tiles:
            shown = self.round(picture, limit) * self.steps(limit)[0]
            return np.where(self.tiles.mask(*picture.shape[2:]), picture, shown)
        if not self.released:
            return picture
        places, result = self.places(self.released, geometry), picture.copy()
        result[:, places] = self.round(picture[:, places], limit) * self.steps(limit)[0]
        return result

    def errors(self, geometry: Geometry, limit: int) -> npt.NDArray[np.float64]:
        """How far each channel of the picture may be from the value before quantising, in quantiser steps: (C')."""
        result = np.full(geometry.picture[0], 0.5)
        if self.shows:
            result[self.places(self.shown_channels, geometry)] += self.steps(limit)[0]  # half a step, a whole one at the limit
        return result

    def __str__(self) -> str:
        if self.whole:
            return f"{self.channels} channels encrypted"
        if self.tiles:
            parts = [f"{self.tiles} of {len(self.encrypted)} channels", f"the others released at {self.bits} bits"]
        else:
            parts = [f"{len(self.encrypted)} of {self.channels} channels encrypted"]
        parts += [f"{len(self.released)} released at {self.bits} bits"] if self.released else []
        parts += [f"{len(self.absent)} absent"] if self.absent else []
        return ", ".join(parts)
