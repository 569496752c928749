"""Int8 weights and limits of the values: from here on a product is a circuit of integers (see `hecompile.ir.products`)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from hecompile.backends.concrete.limits import Limits
from hecompile.backends.concrete.windows import limits_for, quantise_windows
from hecompile.ir.linear import Array
from hecompile.ir.products import AnyProduct, LaterProduct, QuantizedProduct
from hecompile.ir.readout import leading, quantize_picture

__all__ = ["LimitedProduct"]


@dataclass(frozen=True, eq=False)
class LimitedProduct(LaterProduct):
    """A quantised product whose values are integers within limits; `multiple` pictures per entry of the batch."""

    quantized: QuantizedProduct
    multiple: int

    @cached_property
    def limits(self) -> Limits:
        """What fills the width of the weights."""
        return limits_for(self.geometry, self.quantized.weights)

    @property
    def earlier(self) -> AnyProduct:
        return self.quantized

    def reference(self, value: Array) -> list[Array]:
        integers, scales = quantise_windows(self.geometry.to_picture(value), self.geometry, self.limits)
        return self.quantized.readout.values(self.quantized.correlate(integers), scales, leading(value, self.geometry))

    def rounding(self, value: Array) -> list[Array]:
        """How far rounding the values may take the results from the quantized product's."""
        picture = self.geometry.to_picture(value)
        coarser = quantise_windows(picture, self.geometry, self.limits)[1] / quantize_picture(picture, self.limits.entry)[1]
        bounds = self.quantized.value_rounding(value, self.limits.entry)
        return [bound * float(coarser.max()) for bound in bounds]
