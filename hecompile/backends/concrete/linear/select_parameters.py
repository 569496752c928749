"""Limits of the values: from then on a layer is a circuit of integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hecompile.backends.concrete.linear.stages import LimitedProduct
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.passes import RegionPass
from hecompile.ir.products import AnyProduct, QuantizedProduct
from hecompile.ir.regions import AnyCall, CallRegion, Program

__all__ = ["SelectParameters"]


@dataclass(frozen=True)
class SelectParameters(RegionPass):
    """Choose the largest entries and windows that the values of each layer may have: its circuit's width follows from them.

    weights int8 (32, 16, 9)  ->  entries up to 127, windows up to 1450
    a layer that shows values ->  error: circuits show nothing
    """

    def on(self, program: Program) -> Callable[[AnyCall], AnyCall]:
        def limited(product: AnyProduct) -> AnyProduct:
            if not isinstance(product, QuantizedProduct):
                return product
            if product.split.shows:
                raise CompileError(
                    Diagnostic(f"backend '{self.backend}' shows nothing to the server", help="use policy strict, or --backend bfv")
                )
            return LimitedProduct(product, program.multiple_of(product))

        return lambda region: region.with_products(limited) if isinstance(region, CallRegion) else region
