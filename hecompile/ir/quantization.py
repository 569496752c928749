"""Int8 weights: the one place where the weights of a product are rounded."""

from __future__ import annotations

import numpy as np

from hecompile.ir.products import Product, QuantizedProduct
from hecompile.ir.readout import Readout

__all__ = ["quantize"]

WEIGHT_LIMIT = 127


def quantize(product: Product) -> QuantizedProduct:
    """Weights rounded to multiples of max|row| / 127, row by row; a row of zeros has scale 1. The error of a result is at most
    half a scale times the 1-norm of what the row reads. The scale of a row that is not finite is not finite either."""
    weights = product.weights
    peaks = np.maximum(weights.max(axis=(1, 2), initial=0.0), -weights.min(axis=(1, 2), initial=0.0))
    scales = np.where(peaks == 0, 1.0, peaks / WEIGHT_LIMIT)
    with np.errstate(invalid="ignore"):
        weights /= scales[:, None, None]  # in place: they were made for this, and may be hundreds of megabytes
        rounded = np.rint(weights, out=weights).astype(np.int8)
    readout = Readout(product.input, product.geometry, product.parts, scales, product.bias, product.split)
    return QuantizedProduct(readout, rounded)
