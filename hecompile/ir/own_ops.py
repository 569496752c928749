"""Two operators that aten does not have. Importing this file registers them with torch.

`hecompile.polynomial.default(x, t, low, high, coefficients)` is a polynomial in the Chebyshev basis. `coefficients` is
(bins, degree + 1), `low` and `high` are (bins); the row is that of the timestep t (`hecompile.ir.timesteps.timestep_bin`). The
range [low, high] is mapped to [-1, 1]. Values outside it are not clamped.

`hecompile.reveal.default(x, encrypted, shares, bits)` marks a value of which the server sees a part. It gets the channels of x for
which the mask `encrypted` (C) is False as plain integers of `bits` bits, and the others as ciphertexts. A mask (rows, columns) is
one of equal tiles of the picture, over all channels. `shares`, of the mask's shape, says which share of the value's distortion
every channel or tile has. As a function the operator is the identity: layers round what they read of it when they are quantised.
"""

from __future__ import annotations

import torch

from hecompile.ir.timesteps import TRAIN_STEPS

__all__ = ["polynomial", "reveal"]

torch.library.define("hecompile::polynomial", "(Tensor x, Tensor t, Tensor low, Tensor high, Tensor coefficients) -> Tensor")


@torch.library.impl("hecompile::polynomial", "CompositeImplicitAutograd")
def polynomial(x: torch.Tensor, t: torch.Tensor, low: torch.Tensor, high: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
    """The polynomial of the timestep's bin at every entry of x, by Clenshaw's recurrence, in the type of x."""
    bins = low.shape[0]
    place = (t.double() * bins / TRAIN_STEPS).floor().clamp(0, bins - 1).long().reshape(1)
    bottom, top = low.index_select(0, place).to(x.dtype), high.index_select(0, place).to(x.dtype)
    row = coefficients.index_select(0, place).to(x.dtype)[0]  # (degree + 1)
    twice = (2 * x - (bottom + top)) * (2 / (top - bottom))  # [low, high] -> [-2, 2]
    first, second = row[-1], torch.zeros_like(row[-1])
    for power in range(row.shape[0] - 2, 0, -1):
        first, second = row[power] + twice * first - second, first
    return row[0] + twice * first / 2 - second


torch.library.define("hecompile::reveal", "(Tensor x, Tensor encrypted, Tensor shares, int bits) -> Tensor")


@torch.library.impl("hecompile::reveal", "CompositeImplicitAutograd")
def reveal(x: torch.Tensor, encrypted: torch.Tensor, shares: torch.Tensor, bits: int) -> torch.Tensor:
    """A copy of x. The mask takes effect when the layers that read the result are quantised."""
    return x.clone()
