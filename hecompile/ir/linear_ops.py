"""Linear operations at the stages of lowering: with float weights, then int8 weights, then parameters, then packings.

Each stage is a frozen record that holds the one before. It is checked when built and can be computed (`reference`), so that a
region runs after every pass. A linear operation stands for all layers that read the same value in the same way (q, k and v; all
projections of the time embedding): it has the rows of all, and they share one upload.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hecompile.errors import InternalError
from hecompile.ir.channels import ChannelSplit
from hecompile.ir.dequantizer import Dequantizer, finish, leading, quantize_picture
from hecompile.ir.linear import Array, Geometry, Part, correlate

__all__ = ["FloatLinearOp", "LinearOp", "LoweredLinearOp", "QuantizedLinearOp"]


class LinearOp(Protocol):
    """What a linear operation offers at any stage."""

    @property
    def input(self) -> str: ...
    @property
    def geometry(self) -> Geometry: ...
    @property
    def parts(self) -> tuple[Part, ...]: ...
    @property
    def split(self) -> ChannelSplit: ...
    @property
    def described(self) -> str:
        """What this stage adds to the operation's line in the program's text: empty, or a text that begins with a comma."""
        ...

    def reference(self, value: Array) -> list[Array]:
        """Return the outputs of all parts for the input value, float32."""
        ...


class LoweredLinearOp(ABC):
    """A linear operation at a later stage. It has the input, geometry, parts and split of the earlier stage."""

    @property
    @abstractmethod
    def earlier(self) -> LinearOp:
        """The operation at the stage before."""

    @property
    def described(self) -> str:
        return ""

    @property
    def input(self) -> str:
        return self.earlier.input

    @property
    def geometry(self) -> Geometry:
        return self.earlier.geometry

    @property
    def parts(self) -> tuple[Part, ...]:
        return self.earlier.parts

    @property
    def split(self) -> ChannelSplit:
        return self.earlier.split


@dataclass(frozen=True, eq=False)
class FloatLinearOp:
    """A linear operation with float weights, and a bias (outputs).

    `make_weights` arranges the model's weights as (rows, C', K) for the geometry's picture. They are made when they are needed, as
    those of all layers together would take more than twice the model's memory.
    """

    input: str
    geometry: Geometry
    parts: tuple[Part, ...]
    make_weights: Callable[[], npt.NDArray[np.float64]]
    bias: npt.NDArray[np.float32]
    split: ChannelSplit

    def __post_init__(self) -> None:
        outputs = self.geometry.outputs
        if sum(part.outputs for part in self.parts) != outputs or self.bias.shape != (outputs,):
            raise InternalError(f"linear operation on {self.input}: the parts and the bias do not add up to {outputs} outputs")
        tiles = self.split.tiles
        if self.split.channels != self.geometry.channels or not (tiles is None or tiles.fits(self.geometry)):
            raise InternalError(f"linear operation on {self.input}: its channels do not fit: {self.split}")

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """The weights (rows, C', K), made anew at every access.

        Raises:
            InternalError: if their shape is not the geometry's, or an absent channel has a weight that is not zero.
        """
        weights, expected = self.make_weights(), (self.geometry.rows, self.geometry.picture[0], len(self.geometry.taps))
        if weights.shape != expected:
            raise InternalError(f"linear operation on {self.input}: weights {weights.shape}, expected {expected}")
        if weights[:, self.split.places(self.split.absent, self.geometry)].any():
            raise InternalError(f"linear operation on {self.input}: an absent channel has weights: {self.split}")
        return weights

    @property
    def described(self) -> str:
        return ", weights float64"

    @property
    def macs(self) -> int:
        """Multiply-adds per picture without encryption."""
        geometry = self.geometry
        return geometry.rows * geometry.picture[0] * len(geometry.taps) * geometry.grid[0] * geometry.grid[1]

    def reference(self, value: Array) -> list[Array]:
        picture = self.geometry.to_picture(value).astype(np.float64)
        result = correlate(picture, self.weights, self.geometry.taps, self.geometry.grid)
        return finish(result, self.geometry, self.parts, self.bias, leading(value, self.geometry))


@dataclass(frozen=True, eq=False)
class QuantizedLinearOp:
    """A linear operation with int8 weights (rows, C', K) and one scale per row; its input is still a float value."""

    dequantizer: Dequantizer
    weights: npt.NDArray[np.int8]

    @property
    def input(self) -> str:
        return self.dequantizer.input

    @property
    def geometry(self) -> Geometry:
        return self.dequantizer.geometry

    @property
    def parts(self) -> tuple[Part, ...]:
        return self.dequantizer.parts

    @property
    def split(self) -> ChannelSplit:
        return self.dequantizer.split

    @property
    def described(self) -> str:
        return f", weights int8, row norm {self.row_norm}"

    @property
    def row_norm(self) -> int:
        """The largest sum of |weights| of a row, which bounds the integer results."""
        return int(np.abs(self.weights.astype(np.int64)).sum(axis=(1, 2)).max(initial=0))

    def reference(self, value: Array) -> list[Array]:
        picture = self.geometry.to_picture(value).astype(np.float64)
        result = self.correlate(picture)
        return self.dequantizer.values(result, np.ones(len(picture)), leading(value, self.geometry))

    def correlate(self, picture: Array) -> Any:
        """Return the convolution with the int8 weights, in float64: exact for integers while row_norm * max|x| < 2^53."""
        return correlate(picture.astype(np.float64), self.weights.astype(np.float64), self.geometry.taps, self.geometry.grid)

    def rounding(self, value: Array) -> list[Array]:
        """Return the largest error from rounding the weights, for each output: half a weight's scale times the sum of |inputs|
        read."""
        picture = np.abs(self.geometry.to_picture(value).astype(np.float64))
        ones = np.ones((1, picture.shape[1], len(self.geometry.taps)))
        read = correlate(picture, ones, self.geometry.taps, self.geometry.grid)  # (E, 1, *grid)
        return self._without_bias(read * (self.dequantizer.weight_scales / 2)[:, None, None], value)

    def value_rounding(self, value: Array, limit: int) -> list[Array]:
        """Return the largest error from quantising the input, for each output: every channel's error times the sum of its
        |weights|."""
        _, scales = quantize_picture(self.geometry.to_picture(value), limit)
        norms = np.abs(self.weights.astype(np.float64)).sum(axis=2) @ self.split.errors(self.geometry, limit)
        norms = norms * self.dequantizer.weight_scales
        picture = np.broadcast_to((scales[:, None] * norms)[:, :, None, None], (len(scales), len(norms), *self.geometry.grid))
        return self._without_bias(picture, value)

    def _without_bias(self, picture: Array, value: Array) -> list[Array]:
        bias = np.zeros(self.geometry.outputs, np.float32)
        return finish(picture, self.geometry, self.parts, bias, leading(value, self.geometry))

    def integer_reference(self, value: Array, limit: int) -> list[Array]:
        """Return the outputs that every exact backend must return, bit for bit, if it quantises the input to at most `limit`."""
        integers, scales = quantize_picture(self.geometry.to_picture(value), limit)
        seen = self.split.seen(integers, self.geometry, limit)
        return self.dequantizer.values(self.correlate(seen), scales, leading(value, self.geometry))
