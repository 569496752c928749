"""Parameters that provably carry each layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hecompile.backends.bfv.choose import choose
from hecompile.backends.bfv.parameters import DIMENSIONS, LIMITS, MAX_WORD_BITS, T_BITS
from hecompile.backends.bfv.stages import ParameterizedProduct, encrypted_weights
from hecompile.errors import CompileError, Diagnostic
from hecompile.ir.passes import RegionPass
from hecompile.ir.products import AnyProduct, QuantizedProduct
from hecompile.ir.regions import AnyCall, CallRegion, Program
from hecompile.machine import Machine

__all__ = ["SelectParameters"]


@dataclass(frozen=True)
class SelectParameters(RegionPass):
    """Choose ring, plaintext modulus and quantiser steps per layer, by proof.

    weights int8 (32, 16, 9)  ->  N 2048, q 48 bits, t 26 bits, limit 2047
    a layer that fits no ring ->  error that names it
    """

    security_bits: int
    machine: Machine

    def on(self, program: Program) -> Callable[[AnyCall], AnyCall]:
        def change(region: AnyCall) -> AnyCall:
            if not isinstance(region, CallRegion):
                return region
            findings: list[Diagnostic] = []

            def parameterize(product: AnyProduct) -> AnyProduct:
                if not isinstance(product, QuantizedProduct):
                    return product
                multiple = program.multiple_of(product)
                choice = choose(encrypted_weights(product), multiple, self.machine, security_bits=self.security_bits)
                if choice is None:
                    findings.append(_finding(product))
                    return product
                return ParameterizedProduct(product, choice.parameters)

            result = region.with_products(parameterize)
            if findings:
                raise CompileError(findings)
            return result

        return change

    def summary(self, before: Program, after: Program) -> str:
        rings = {
            (product.parameters.dimension, product.parameters.q_bits)
            for product in after.products
            if isinstance(product, ParameterizedProduct)
        }
        return ", ".join(f"N {dimension} q {q_bits} bits" for dimension, q_bits in sorted(rings)) or "nothing to do"


def _finding(product: QuantizedProduct) -> Diagnostic:
    names = ", ".join(part.output for part in product.parts)
    return Diagnostic(
        f"no parameters carry {names}: sum of |weights| {product.row_norm}, picture {product.geometry.picture}",
        source=product.parts[0].source,
        help=f"a layer fits if its row sum times {LIMITS[0]} is below 2^{T_BITS[1] - 1}, its noise leaves room for that in "
        f"{MAX_WORD_BITS} bits, and one row of its picture is below {DIMENSIONS[-1]} entries; run the layer outside the UNet",
    )
