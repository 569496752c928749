"""Int8 weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hecompile.backends.registry import backend
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.products import AnyProduct, Product, QuantizedProduct
from hecompile.ir.quantization import quantize
from hecompile.ir.regions import CallRegion, Program
from hecompile.passes.base import Pass

__all__ = ["Quantize"]


@dataclass(frozen=True)
class Quantize(Pass[Program, Program]):
    """Round the weights of encrypted layers to int8, one scale per output channel.

    weights float64 (32, 16, 9)  ->  weights int8 (32, 16, 9), scales float64 (32)
    bias                         ->  stays at the client, float32
    client regions               ->  unchanged
    """

    def run(self, program: Program) -> Program:
        findings = [
            Diagnostic(f"{part.output}: weights are not finite", source=part.source, help="repair the model's weights")
            for product in program.products
            for part in product.parts
            if isinstance(product, Product) and not (np.isfinite(product.weights).all() and np.isfinite(product.bias).all())
        ]
        if findings:
            raise CompileError(findings)
        return program.with_products(self._product)

    def _product(self, region: CallRegion, product: AnyProduct) -> AnyProduct:
        return quantize(product) if backend(region.backend).integer and isinstance(product, Product) else product

    def summary(self, before: Program, after: Program) -> str:
        weights = sum(product.weights.size for product in after.products if isinstance(product, QuantizedProduct))
        return f"{weights} weights as int8"
