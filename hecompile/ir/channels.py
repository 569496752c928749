"""How a layer's input reaches the server: every channel is encrypted, revealed, or absent; or so is every tile of its picture.

What is encrypted is quantised to integers, its quantiser steps. A revealed entry is rounded further, to a multiple of 2, 4, 8, ...
quantiser steps, so that it has at most `bits` bits and at least one bit less than encrypted entries have. A channel is absent where
all of the layer's weights for it are zero: it is not sent.
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

REVEAL_BITS = (2, 11)  # least and most of a revealed integer; the quantiser of what is encrypted has at most 12


@dataclass(frozen=True)
class ChannelSplit:
    """Which channels of a layer's input tensor are encrypted, revealed and absent. At least one is encrypted.

    `revealed` and `absent` are numbers of channels; all others are encrypted. With `tiles`, `revealed` is empty: of every channel
    that is not absent, the encrypted tiles of the picture are encrypted and the other tiles revealed. Raises `ProtocolError` when
    built from numbers that do not fit together.
    """

    channels: int
    revealed: tuple[int, ...] = ()
    absent: tuple[int, ...] = ()
    bits: int = 8  # of a revealed integer
    tiles: Tiles | None = None

    def __post_init__(self) -> None:
        named = (*self.revealed, *self.absent)
        known = all(0 <= channel < self.channels for channel in named)
        if not 1 <= self.channels <= MOST_CHANNELS or len(set(named)) != len(named) or not known:
            raise ProtocolError(f"channels: {self.revealed} and {self.absent} of {self.channels} do not fit together")
        if len(named) == self.channels:
            raise ProtocolError("channels: none is encrypted")
        if self.revealed and self.tiles:
            raise ProtocolError("channels: revealed whole and by tiles at once")
        if self.reveals and not REVEAL_BITS[0] <= self.bits <= REVEAL_BITS[1]:
            raise ProtocolError(f"channels: revealed with {self.bits} bits, not {REVEAL_BITS[0]} to {REVEAL_BITS[1]}")

    @property
    def whole(self) -> bool:
        """Whether every entry of the input is encrypted."""
        return not self.reveals and not self.absent

    @property
    def reveals(self) -> bool:
        """Whether any entry of the input is revealed."""
        return bool(self.revealed) or self.tiles is not None

    @property
    def tiles_per_picture(self) -> int:
        """How many pictures are encrypted for one picture of the value: its encrypted tiles, or 1."""
        return len(self.tiles.encrypted) if self.tiles else 1

    @cached_property
    def encrypted(self) -> tuple[int, ...]:
        left_out = {*self.revealed, *self.absent}
        return tuple(channel for channel in range(self.channels) if channel not in left_out)

    def places(self, channels: tuple[int, ...], geometry: Geometry) -> npt.NDArray[np.int64]:
        """Return the channels of the layer's picture that hold these channels of its tensor; several each after space-to-depth."""
        per_channel = geometry.down[0] * geometry.down[1]
        return (np.array(channels, np.int64)[:, None] * per_channel + np.arange(per_channel)).reshape(-1)

    def encrypted_of(self, picture: Array, geometry: Geometry) -> Array:
        """From an array (E, C', ...) or (rows, C', ...), the channels of which any entry is encrypted."""
        return picture[:, self.places(self.encrypted, geometry)] if self.revealed or self.absent else picture

    def revealed_of(self, picture: Array, geometry: Geometry) -> Array:
        """From such an array, the channels of which any entry is revealed."""
        return self.encrypted_of(picture, geometry) if self.tiles else picture[:, self.places(self.revealed, geometry)]

    def sent(self, picture: Array, geometry: Geometry) -> Array:
        """Return the encrypted entries of pictures (E, C', H, W), as (E tiles_per_picture, channels, h, w)."""
        channels = self.encrypted_of(picture, geometry)
        return self.tiles.cut(channels, self.tiles.encrypted) if self.tiles else channels

    def revealed_entries(self, picture: Array, geometry: Geometry) -> Array:
        """Return the revealed entries of pictures (E, C', H, W), as (E, channels, H, W), or (E tiles, channels, h, w) with
        tiles."""
        channels = self.revealed_of(picture, geometry)
        return self.tiles.cut(channels, self.tiles.revealed) if self.tiles else channels

    def revealed_shape(self, geometry: Geometry, elements: int) -> tuple[int, int, int, int]:
        """Return the shape of `revealed_entries` for E pictures."""
        channels, _, height, width = (len(self.places(self.revealed_channels, geometry)), *geometry.picture)
        if self.tiles is None:
            return elements, channels, height, width
        return (elements * len(self.tiles.revealed), channels, *self.tiles.block(geometry))

    @property
    def revealed_channels(self) -> tuple[int, ...]:
        """Numbers of the tensor's channels of which any entry is revealed."""
        return self.encrypted if self.tiles else self.revealed

    def encrypted_share(self, geometry: Geometry) -> float:
        """Return which share of the input's entries is not revealed, from 0 to 1."""
        revealed = self.revealed_shape(geometry, 1)
        channels, height, width = geometry.picture
        return 1 - revealed[0] * revealed[1] * revealed[2] * revealed[3] / (channels * height * width)

    def encrypted_geometry(self, geometry: Geometry) -> Geometry:
        """Return the convolution that the server computes on the encrypted entries."""
        geometry = geometry if len(self.encrypted) == self.channels else replace(geometry, channels=len(self.encrypted))
        return self.tiles.geometry(geometry) if self.tiles else geometry

    def steps(self, limit: int) -> tuple[int, int]:
        """Quantiser steps per step of revealed integers, a power of two, and the largest revealed integer.

        `limit` is the largest integer that an encrypted entry is quantised to.
        """
        step = 2
        while limit // step > 2 ** (self.bits - 1) - 1:
            step *= 2
        return step, limit // step

    def round(self, entries: Array, limit: int) -> npt.NDArray[np.int64]:
        """Round quantised entries to revealed integers, which count the larger steps; any shape."""
        step, most = self.steps(limit)
        revealed: npt.NDArray[np.int64] = np.clip(np.rint(entries / step), -most, most).astype(np.int64)
        return revealed

    def seen(self, picture: npt.NDArray[np.int64], geometry: Geometry, limit: int) -> npt.NDArray[np.int64]:
        """Return the quantised picture (E, C', H, W) with revealed entries rounded, in quantiser steps: what the layer computes
        on."""
        if self.tiles:
            revealed = self.round(picture, limit) * self.steps(limit)[0]
            return np.where(self.tiles.mask(*picture.shape[2:]), picture, revealed)
        if not self.revealed:
            return picture
        places, result = self.places(self.revealed, geometry), picture.copy()
        result[:, places] = self.round(picture[:, places], limit) * self.steps(limit)[0]
        return result

    def errors(self, geometry: Geometry, limit: int) -> npt.NDArray[np.float64]:
        """Return the largest error that quantising and revealing make in each channel of the picture (C'), in quantiser steps."""
        result = np.full(geometry.picture[0], 0.5)
        if self.reveals:
            result[self.places(self.revealed_channels, geometry)] += self.steps(limit)[0]  # half a step, a whole one at the limit
        return result

    def __str__(self) -> str:
        if self.whole:
            return f"{self.channels} channels encrypted"
        if self.tiles:
            parts = [f"{self.tiles} of {len(self.encrypted)} channels", f"the others revealed at {self.bits} bits"]
        else:
            parts = [f"{len(self.encrypted)} of {self.channels} channels encrypted"]
        parts += [f"{len(self.revealed)} revealed at {self.bits} bits"] if self.revealed else []
        parts += [f"{len(self.absent)} absent"] if self.absent else []
        return ", ".join(parts)
