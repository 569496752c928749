"""Where entries lie in polynomials, for every batch size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hecompile.backends.bfv.choose import choose
from hecompile.backends.bfv.stages import PackedProduct, ParameterizedProduct, encrypted_weights
from hecompile.errors import InternalError
from hecompile.ir.passes import RegionPass
from hecompile.ir.products import AnyProduct
from hecompile.ir.regions import AnyCall, CallRegion, Program
from hecompile.machine import Machine

__all__ = ["Pack"]


@dataclass(frozen=True)
class Pack(RegionPass):
    """Lay out pictures in polynomials: the batch first, then input channels and outputs.

    N 2048, picture 32x8x8, batch 1   ->  6 channels an upload, 4 outputs an answer
    the same, batch 16                ->  16 elements, 1 channel, 1 output
    """

    max_batch: int
    machine: Machine

    def on(self, program: Program) -> Callable[[AnyCall], AnyCall]:
        def pack(product: AnyProduct) -> AnyProduct:
            if not isinstance(product, ParameterizedProduct):
                return product
            multiple, weights, choices = program.multiple_of(product), encrypted_weights(product.quantized), []
            for batch in range(1, self.max_batch + 1):
                choice = choose(weights, batch * multiple, self.machine, product.parameters)
                if choice is None:
                    raise InternalError(f"{product.input}: no packing for batch {batch} under {product.parameters}")
                choices.append(choice)
            return PackedProduct(product, multiple, tuple(choices))

        return lambda region: region.with_products(pack) if isinstance(region, CallRegion) else region

    def summary(self, before: Program, after: Program) -> str:
        fills = [product.choices[0].layout.fill for product in after.products if isinstance(product, PackedProduct)]
        return f"fill factor at batch 1: {sum(fills) / len(fills):.0%} on average" if fills else "nothing to do"
