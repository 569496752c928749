"""Operators of our own, for what aten has no single name for. Importing this file makes them known to torch.

`hecompile.polynomial.default(x, t, low, high, coefficients)` is a polynomial in the Chebyshev basis. `coefficients` is
(bins, degree + 1), `low` and `high` are (bins); the row is that of the timestep t, `hecompile.calibration.timestep_bin`. The range
[low, high] is mapped to [-1, 1]; outside it the polynomial is what it is, nothing is clamped.

`hecompile.release.default(x, encrypted, shares, bits)` marks where a value leaves the client: the server gets the channels of x
that are not in `encrypted` (C) in clear, rounded to `bits` bits, and the others as ciphertexts. A mask (rows, columns) is one of
equal tiles of the picture, over all channels. `shares` are those of the value's distortion, of the same shape. As a function it is
the identity: rounding happens when the layers that read it are quantised.
"""

from __future__ import annotations

import torch

from hecompile.ir.timesteps import TRAIN_STEPS

__all__ = ["polynomial", "release"]

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


torch.library.define("hecompile::release", "(Tensor x, Tensor encrypted, Tensor shares, int bits) -> Tensor")


@torch.library.impl("hecompile::release", "CompositeImplicitAutograd")
def release(x: torch.Tensor, encrypted: torch.Tensor, shares: torch.Tensor, bits: int) -> torch.Tensor:
    """x."""
    return x.clone()
