"""A linear layer on its way to integers: float weights, then int8 weights, then parameters, then packings.

Each stage is a frozen record that holds the one before, runs (`reference`) and is checked when built, so a region can be executed
after every pass. A `Product` answers all layers that read the same value in the same way (q, k and v, all projections of the
time embedding): their rows are stacked and share one upload.
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
from hecompile.ir.linear import Array, Geometry, Part, correlate
from hecompile.ir.readout import Readout, finish, leading, quantize_picture

__all__ = ["AnyProduct", "LaterProduct", "Product", "QuantizedProduct"]


class AnyProduct(Protocol):
    """A product at any stage."""

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
        """What its stage knows, as the end of a line of the program's text: empty, or beginning with a comma."""
        ...

    def reference(self, value: Array) -> list[Array]:
        """The parts' values, float32, for one value, float32."""
        ...


class LaterProduct(ABC):
    """A product at a later stage: its layers are those of the earlier one."""

    @property
    @abstractmethod
    def earlier(self) -> AnyProduct:
        """The product that this one was made of."""

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
class Product:
    """Float weights and bias (outputs).

    `make_weights` makes the weights, (rows, C', K) for the geometry's picture, from the model's own: those of all layers together
    would need more than twice the model's memory, so they exist for one layer at a time.
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
            raise InternalError(f"product of {self.input}: the parts and the bias do not add up to {outputs} outputs")
        tiles = self.split.tiles
        if self.split.channels != self.geometry.channels or not (tiles is None or tiles.fits(self.geometry)):
            raise InternalError(f"product of {self.input}: its channels do not fit: {self.split}")

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """The weights, made anew: keep them no longer than they are needed.

        Raises:
            InternalError: if they have another shape than the geometry says, or absent channels have some.
        """
        weights, expected = self.make_weights(), (self.geometry.rows, self.geometry.picture[0], len(self.geometry.taps))
        if weights.shape != expected:
            raise InternalError(f"product of {self.input}: weights {weights.shape}, expected {expected}")
        if weights[:, self.split.places(self.split.absent, self.geometry)].any():
            raise InternalError(f"product of {self.input}: its channels do not fit: {self.split}")
        return weights

    @property
    def described(self) -> str:
        return ", weights float64"

    @property
    def macs(self) -> int:
        """Multiply-adds per element in the clear."""
        geometry = self.geometry
        return geometry.rows * geometry.picture[0] * len(geometry.taps) * geometry.grid[0] * geometry.grid[1]

    def reference(self, value: Array) -> list[Array]:
        picture = self.geometry.to_picture(value).astype(np.float64)
        result = correlate(picture, self.weights, self.geometry.taps, self.geometry.grid)
        return finish(result, self.geometry, self.parts, self.bias, leading(value, self.geometry))


@dataclass(frozen=True, eq=False)
class QuantizedProduct:
    """Int8 weights (rows, C', K) with one scale per row; the values are still floats."""

    readout: Readout
    weights: npt.NDArray[np.int8]

    @property
    def input(self) -> str:
        return self.readout.input

    @property
    def geometry(self) -> Geometry:
        return self.readout.geometry

    @property
    def parts(self) -> tuple[Part, ...]:
        return self.readout.parts

    @property
    def split(self) -> ChannelSplit:
        return self.readout.split

    @property
    def described(self) -> str:
        return f", weights int8, row norm {self.row_norm}"

    @property
    def row_norm(self) -> int:
        """The largest sum of |weights| of a row: W1 of the message bound."""
        return int(np.abs(self.weights.astype(np.int64)).sum(axis=(1, 2)).max(initial=0))

    def reference(self, value: Array) -> list[Array]:
        picture = self.geometry.to_picture(value).astype(np.float64)
        result = self.correlate(picture)
        return self.readout.values(result, np.ones(len(picture)), leading(value, self.geometry))

    def correlate(self, picture: Array) -> Any:
        """The integer product itself in float64: exact for integers while row_norm * max|x| < 2^53."""
        return correlate(picture.astype(np.float64), self.weights.astype(np.float64), self.geometry.taps, self.geometry.grid)

    def rounding(self, value: Array) -> list[Array]:
        """How far rounded weights may take the results from the float product's: half a scale times the 1-norm of what is read."""
        picture = np.abs(self.geometry.to_picture(value).astype(np.float64))
        ones = np.ones((1, picture.shape[1], len(self.geometry.taps)))
        read = correlate(picture, ones, self.geometry.taps, self.geometry.grid)  # (E, 1, *grid)
        return self._without_bias(read * (self.readout.weight_scales / 2)[:, None, None], value)

    def value_rounding(self, value: Array, limit: int) -> list[Array]:
        """How far rounded values may take the results from `reference`: each channel's error times the 1-norm of its weights."""
        _, scales = quantize_picture(self.geometry.to_picture(value), limit)
        norms = np.abs(self.weights.astype(np.float64)).sum(axis=2) @ self.split.errors(self.geometry, limit)
        norms = norms * self.readout.weight_scales
        picture = np.broadcast_to((scales[:, None] * norms)[:, :, None, None], (len(scales), len(norms), *self.geometry.grid))
        return self._without_bias(picture, value)

    def _without_bias(self, picture: Array, value: Array) -> list[Array]:
        bias = np.zeros(self.geometry.outputs, np.float32)
        return finish(picture, self.geometry, self.parts, bias, leading(value, self.geometry))

    def integer_reference(self, value: Array, limit: int) -> list[Array]:
        """What every exact backend must return, bit for bit."""
        integers, scales = quantize_picture(self.geometry.to_picture(value), limit)
        seen = self.split.seen(integers, self.geometry, limit)
        return self.readout.values(self.correlate(seen), scales, leading(value, self.geometry))
