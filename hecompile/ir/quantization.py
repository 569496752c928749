"""Rounds the weights of a linear operation to int8."""

from __future__ import annotations

import numpy as np

from hecompile.ir.dequantizer import Dequantizer
from hecompile.ir.linear_ops import FloatLinearOp, QuantizedLinearOp

__all__ = ["quantize"]

WEIGHT_LIMIT = 127


def quantize(linear_op: FloatLinearOp) -> QuantizedLinearOp:
    """Return the linear operation with int8 weights: every row is rounded to multiples of its scale, max|row| / 127.

    A row of zeros has scale 1; a row that is not finite has a scale that is not finite. Rounding changes a result by at most half a
    scale times the sum of the |inputs| that its row reads.
    """
    weights = linear_op.weights
    peaks = np.maximum(weights.max(axis=(1, 2), initial=0.0), -weights.min(axis=(1, 2), initial=0.0))
    scales = np.where(peaks == 0, 1.0, peaks / WEIGHT_LIMIT)
    with np.errstate(invalid="ignore"):
        weights /= scales[:, None, None]  # in place: this array is a copy that nobody else reads, of up to hundreds of megabytes
        rounded = np.rint(weights, out=weights).astype(np.int8)
    dequantizer = Dequantizer(linear_op.input, linear_op.geometry, linear_op.parts, scales, linear_op.bias, linear_op.split)
    return QuantizedLinearOp(dequantizer, rounded)
