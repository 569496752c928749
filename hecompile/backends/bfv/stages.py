"""Products with parameters, and with packings: the last two stages before lowering (see `hecompile.ir.products`)."""

from __future__ import annotations

from dataclasses import dataclass

from hecompile.backends.bfv.choose import Choice, Weights
from hecompile.backends.bfv.parameters import Parameters
from hecompile.errors import InternalError
from hecompile.ir.linear import Array
from hecompile.ir.products import AnyProduct, LaterProduct, QuantizedProduct

__all__ = ["PackedProduct", "ParameterizedProduct", "encrypted_weights"]


def encrypted_weights(product: QuantizedProduct) -> Weights:
    """What the parameters of a product depend on: the weights that meet ciphertexts, and the norm of all."""
    split, geometry = product.split, product.geometry
    values = split.encrypted_of(product.weights, geometry)
    return Weights(split.encrypted_geometry(geometry), values, product.row_norm, split.slots)


@dataclass(frozen=True, eq=False)
class ParameterizedProduct(LaterProduct):
    """Int8 weights and parameters that carry them: from here on the values are integers too."""

    quantized: QuantizedProduct
    parameters: Parameters

    @property
    def earlier(self) -> AnyProduct:
        return self.quantized

    @property
    def described(self) -> str:
        return f", {self.parameters}"

    def reference(self, value: Array) -> list[Array]:
        return self.quantized.integer_reference(value, self.parameters.limit)

    def rounding(self, value: Array) -> list[Array]:
        """How far rounding the values may take the results from the quantized product's."""
        return self.quantized.value_rounding(value, self.parameters.limit)


@dataclass(frozen=True, eq=False)
class PackedProduct(LaterProduct):
    """A packing for every batch size from one to `len(choices)`; `multiple` pictures per entry of the batch.

    `requests` of a run are served by one seed: 1 is a fresh seed for each.
    """

    parameterized: ParameterizedProduct
    multiple: int
    choices: tuple[Choice, ...]
    requests: int = 1

    @property
    def earlier(self) -> AnyProduct:
        return self.parameterized

    @property
    def described(self) -> str:
        lines = [self.parameterized.described + (f", seeds for {self.requests} requests" if self.requests > 1 else "")]
        for batch, choice in enumerate(self.choices, start=1):
            packing = choice.layout.packing
            lines.append(
                f"      batch {batch}: {packing.share} slots, {packing.p_in} in, {packing.p_out} out, "
                f"drops {choice.drop_b}/{choice.drop_a}, {choice.proof} {choice.noise_bits:.1f} of {choice.budget_bits:.1f} bits"
            )
        return "\n".join(lines)

    def __post_init__(self) -> None:
        for batch, choice in enumerate(self.choices, start=1):
            slots = batch * self.multiple * self.split.slots
            if choice.parameters != self.parameterized.parameters or choice.layout.packing.elements != slots:
                raise InternalError(f"product of {self.input}: the packing for batch {batch} is for something else")

    def reference(self, value: Array) -> list[Array]:
        return self.parameterized.reference(value)
