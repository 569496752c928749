"""Linear layers with parameters, and with packings: the last two stages before lowering (see `hecompile.ir.linear_ops`)."""

from __future__ import annotations

from dataclasses import dataclass

from hecompile.backends.bfv.choose import Choice, Weights
from hecompile.backends.bfv.parameters import Parameters
from hecompile.errors import InternalError
from hecompile.ir.linear import Array
from hecompile.ir.linear_ops import LinearOp, LoweredLinearOp, QuantizedLinearOp

__all__ = ["PackedLinearOp", "ParameterizedLinearOp", "encrypted_weights"]


def encrypted_weights(linear_op: QuantizedLinearOp) -> Weights:
    """What the parameters of a layer depend on: the weights that ciphertexts are multiplied by, and the norm of all weights."""
    split, geometry = linear_op.split, linear_op.geometry
    values = split.encrypted_of(linear_op.weights, geometry)
    return Weights(split.encrypted_geometry(geometry), values, linear_op.row_norm, split.tiles_per_picture)


@dataclass(frozen=True, eq=False)
class ParameterizedLinearOp(LoweredLinearOp):
    """A layer with int8 weights and parameters that carry them. From this stage on, its values are integers too."""

    quantized: QuantizedLinearOp
    parameters: Parameters

    @property
    def earlier(self) -> LinearOp:
        return self.quantized

    @property
    def described(self) -> str:
        return f", {self.parameters}"

    def reference(self, value: Array) -> list[Array]:
        return self.quantized.integer_reference(value, self.parameters.limit)

    def rounding(self, value: Array) -> list[Array]:
        """How far the rounding of values may move the results from those of the quantised layer."""
        return self.quantized.value_rounding(value, self.parameters.limit)


@dataclass(frozen=True, eq=False)
class PackedLinearOp(LoweredLinearOp):
    """A layer with a packing for every batch size from 1 to `len(choices)`; every sample has `images_per_sample` pictures.

    One seed serves `requests` requests of a run; 1 means a fresh seed for every request.
    """

    parameterized: ParameterizedLinearOp
    images_per_sample: int
    choices: tuple[Choice, ...]
    requests: int = 1

    @property
    def earlier(self) -> LinearOp:
        return self.parameterized

    @property
    def described(self) -> str:
        lines = [self.parameterized.described + (f", seeds for {self.requests} requests" if self.requests > 1 else "")]
        for batch, choice in enumerate(self.choices, start=1):
            packing = choice.layout.packing
            lines.append(
                f"      batch {batch}: images_per_poly {packing.images_per_poly}, p_in {packing.p_in}, p_out {packing.p_out}, "
                f"drops {choice.drop_b}/{choice.drop_a}, {choice.proof} {choice.noise_bits:.1f} of {choice.budget_bits:.1f} bits"
            )
        return "\n".join(lines)

    def __post_init__(self) -> None:
        for batch, choice in enumerate(self.choices, start=1):
            pictures = batch * self.images_per_sample * self.split.tiles_per_picture
            if choice.parameters != self.parameterized.parameters or choice.layout.packing.elements != pictures:
                raise InternalError(
                    f"layer of {self.input}: the packing for batch {batch} is for other parameters or another number of pictures"
                )

    def reference(self, value: Array) -> list[Array]:
        return self.parameterized.reference(value)
