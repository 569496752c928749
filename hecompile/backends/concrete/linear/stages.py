"""The last stage of a linear operation before its circuit is made: int8 weights, and limits of the integers that it reads.

Earlier stages are in `hecompile.ir.linear_ops`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from hecompile.backends.concrete.limits import ValueLimits
from hecompile.backends.concrete.windows import limits_for, quantise_windows
from hecompile.ir.dequantizer import leading, quantize_picture
from hecompile.ir.linear import Array
from hecompile.ir.linear_ops import LinearOp, LoweredLinearOp, QuantizedLinearOp

__all__ = ["LimitedLinearOp"]


@dataclass(frozen=True, eq=False)
class LimitedLinearOp(LoweredLinearOp):
    """A quantised linear operation whose input is rounded to integers within limits."""

    quantized: QuantizedLinearOp
    images_per_sample: int

    @cached_property
    def limits(self) -> ValueLimits:
        """The limits of the input that make full use of a whole number of bits of the result."""
        return limits_for(self.geometry, self.quantized.weights)

    @property
    def earlier(self) -> LinearOp:
        return self.quantized

    def reference(self, value: Array) -> list[Array]:
        integers, scales = quantise_windows(self.geometry.to_picture(value), self.geometry, self.limits)
        return self.quantized.dequantizer.values(self.quantized.correlate(integers), scales, leading(value, self.geometry))

    def rounding(self, value: Array) -> list[Array]:
        """Bounds of how far rounding the input may move the results from those of the quantised operation."""
        picture = self.geometry.to_picture(value)
        coarser = quantise_windows(picture, self.geometry, self.limits)[1] / quantize_picture(picture, self.limits.entry)[1]
        bounds = self.quantized.value_rounding(value, self.limits.entry)
        return [bound * float(coarser.max()) for bound in bounds]
