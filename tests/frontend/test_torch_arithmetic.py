"""Arithmetic between types, remainders and divisions of both signs, and calls in place: as torch computes them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (everybody's name for it)
from torch import Tensor

from tests.frontend.calls import TOLERANCE, Call, Kind

DOUBLE = torch.tensor(2.5, dtype=torch.float64)


def tenths(x: Tensor) -> Tensor:
    """Multiples of 0.1, of which a division leaves nothing or nearly all."""
    return (x * 10).round() / 10


def whole(x: Tensor) -> Tensor:
    return (10 * x).long()


def in_place(x: Tensor) -> Tensor:
    y = x.clone().add_(1).mul_(2).sub_(0.5).div_(3).clamp_(-1, 0.9)
    F.leaky_relu_(F.hardtanh_(y, -0.5, 0.7), 0.2)
    y.masked_fill_(x > 1, 0.3).abs_().sqrt_().exp_().tanh_().sigmoid_()
    return F.elu_(y).pow_(2).lerp_(x, 0.3).addcmul_(x, x, value=0.1).clamp_min_(-2).clamp_max_(2)


def in_place_on_parts(x: Tensor) -> Tensor:
    y = x.clone()
    y.zero_().add_(x)
    y[:, 0].fill_(3.0)
    y[:, 1].zero_()
    y[:, :, ::2].mul_(2)
    y[..., 1].copy_(x[..., 0])
    y.permute(0, 2, 3, 1)[..., 0] += 1
    y.view(-1, 4, 36)[:, :, 3] = 7
    first, second = y.chunk(2, 1)
    first += 1
    second *= 2
    return y


CALLS: dict[str, Call] = {
    "a double number": lambda x: x * DOUBLE + torch.tensor(0.1, dtype=torch.float64),
    "a double number chosen": lambda x: torch.where(x > DOUBLE / 25, x, DOUBLE),
    "a double table": lambda x: x * torch.linspace(0, 1, 6, dtype=torch.float64),
    "whole numbers and a float": lambda x: whole(x) * 0.5 + whole(x) * torch.tensor(0.25),
    "whole numbers": lambda x: (3 * x).int() + 2 - (2 * x).int() * 3 + whole(x) ** 2 - 2 ** whole(x).abs().clamp(max=5),
    "functions of whole numbers": lambda x: whole(x).abs().sqrt() + whole(x).sigmoid() + whole(x).floor().relu(),
    "truths": lambda x: ((x > 0) + 1) * 2 + ((x > 0) * (x < 1)) + ((x > 0) + (x < 0)) + ((x > 0) ^ (x < 1)) + (x > 0).amax(1, True),
    "truths and floats": lambda x: (x > 0) * 2.5 - (x > 0) / 2 + torch.logical_xor(x, x > 1) + torch.logical_not(x),
    "compared truths": lambda x: ((x > 0) < (x > 1)).float() + ((x > 0) >= (x > 1)).float() + ((x > 0) == (x > 1)).float(),
    "any and all": lambda x: (x > 0).any(1).float() + (x > -1).all(1).float() + (x > -2).all((1,)).float() + x.any(1),
    "counted": lambda x: (x > 0).sum(1) + (x > 0).count_nonzero(1) + (3 * x).long().sum(1),
    "chosen of two types": lambda x: torch.where(x > 0, whole(x), x) + torch.where(x > 0, whole(x), 0.5) + torch.where(x > 0, 1, x),
    "chosen numbers": lambda x: torch.where(x > 0, 1, 0) + torch.where(x > 0, 1.5, 0),
    "filled whole numbers": lambda x: whole(x).masked_fill(x > 0, 2),
    "filled by a tensor": lambda x: x.masked_fill(x > 0, torch.tensor(2.0)),
    "bounds that are tensors": lambda x: x.clamp(torch.tensor(-0.5), torch.arange(6.0) / 3) + torch.clamp(x, min=x * 0.5),
    "bounds that cross": lambda x: x.clamp(1.0, -1.0),
    "float bounds of whole numbers": lambda x: whole(x).clamp(-1.5, 1.5),
    "the larger of two types": lambda x: torch.maximum(x, torch.tensor(1)) + torch.fmin(x, -x) + torch.max(x, 2 * x),
    "joined types": lambda x: torch.cat([x, whole(x)], 1),
    "remainders": lambda x: tenths(x) % 0.1 + tenths(x).remainder(-0.2) + tenths(x).fmod(0.3),
    "remainders by a tensor": lambda x: x.remainder(torch.tensor([0.5, -0.5, 0.3, 0.2, 1, -1])) + x.fmod(x.flip(1).abs() + 0.1),
    "remainders of a number": lambda x: torch.remainder(5.5, x.abs() + 1),
    "remainders of whole numbers": lambda x: whole(x) % 3 + whole(x) % -3 + whole(x).fmod(3),
    "remainders of whole numbers by a float": lambda x: whole(x) % 2.5,
    "division rounded down": lambda x: tenths(x) // 0.1 + torch.div(tenths(x), -0.2, rounding_mode="floor") + x // (x.abs() + 0.5),
    "division rounded to zero": lambda x: torch.div(tenths(x), 0.3, rounding_mode="trunc") + (3 * x).trunc() + (3 * x).frac(),
    "division of whole numbers": lambda x: whole(x) // 3 + whole(x) // -3 + torch.div(whole(x), 3, rounding_mode="trunc"),
    "true division of whole numbers": lambda x: whole(x) / 3,
    "powers of both signs": lambda x: x**3 + x**5 + (x.sign() * (x.abs() + 1)) ** -2 + x**1 + x**0 + x ** torch.tensor(3),
    "roots": lambda x: (x.abs() + 0.1) ** -0.5 + (x.abs() + 0.1) ** 1.5 + torch.float_power(x.abs(), 2).float(),
    "in place": in_place,
    "in place on parts": in_place_on_parts,
    "softmax in another type": lambda x: x.softmax(1, dtype=torch.float64).float() + F.softmax(whole(x), 1, dtype=torch.float32),
    "buckets": lambda x: torch.bucketize(x, torch.arange(3.0)) + torch.searchsorted(torch.arange(3.0), x, right=True),
}  # fmt: skip
QUICK = ("a double number", "truths", "chosen of two types", "division rounded down")
ARITHMETIC = Kind(CALLS, quick=QUICK, x=(2, 4, 6, 6))


@pytest.mark.parametrize("name", ARITHMETIC.names)
def test_arithmetic_keeps_its_numbers(name: str) -> None:
    assert ARITHMETIC.difference(name) <= TOLERANCE


@pytest.mark.slow
def test_canonical_arithmetic_stays_as_it_is() -> None:
    assert ARITHMETIC.all.operations_again == ARITHMETIC.all.operations
