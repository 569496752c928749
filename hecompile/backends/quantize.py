"""Int8 weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.passes import RegionPass
from hecompile.ir.products import AnyProduct, Product, QuantizedProduct
from hecompile.ir.quantization import quantize
from hecompile.ir.regions import AnyCall, CallRegion, Program

__all__ = ["Quantize"]


@dataclass(frozen=True)
class Quantize(RegionPass):
    """Round the weights of encrypted layers to int8, one scale per output channel.

    weights float64 (32, 16, 9)  ->  weights int8 (32, 16, 9), scales float64 (32)
    bias                         ->  stays at the client, float32
    client regions               ->  unchanged
    """

    def on(self, program: Program) -> Callable[[AnyCall], AnyCall]:
        return _quantized

    def summary(self, before: Program, after: Program) -> str:
        weights = sum(product.weights.size for product in after.products if isinstance(product, QuantizedProduct))
        return f"{weights} weights as int8"


def _quantized(region: AnyCall) -> AnyCall:
    if not isinstance(region, CallRegion):
        return region
    findings: list[Diagnostic] = []

    def change(product: AnyProduct) -> AnyProduct:
        if not isinstance(product, Product):
            return product
        quantized = quantize(product)
        if not (np.isfinite(quantized.readout.weight_scales).all() and np.isfinite(product.bias).all()):
            help = "repair the model's weights"
            findings.extend(Diagnostic(f"{part.output}: weights are not finite", part.source, help=help) for part in product.parts)
        return quantized

    result = region.with_products(change)
    if findings:
        raise CompileError(findings)
    return result
