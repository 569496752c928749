"""Pools: rounding up, padding that counts or not, divisors, adaptive ones to any size, on pictures with and without channels."""

from __future__ import annotations

from itertools import product

import pytest
import torch.nn.functional as F  # noqa: N812  (everybody's name for it)

from tests.frontend.calls import TOLERANCE, Call, Kind

WINDOWS = ((2, 3, 1), (3, 4, 1), (2, 4, 0), (5, 2, 2), (3, 2, 0), (4, 3, 1), (2, 2, 0))  # kernel, stride, padding


def largest(kernel: int, stride: int, padding: int) -> Call:
    return lambda x: F.max_pool2d(x, kernel, stride, padding, ceil_mode=True)


def mean(kernel: int, stride: int, padding: int, counted: bool) -> Call:
    return lambda x: F.avg_pool2d(x, kernel, stride, padding, True, counted)


CALLS: dict[str, Call] = {
    **{f"largest of {window} rounding up": largest(*window) for window in WINDOWS},
    **{f"mean of {window} rounding up, {counted}": mean(*window, counted) for window, counted in product(WINDOWS, (True, False))},
    "largest, a number per axis": lambda x: F.max_pool2d(x, (3, 2), (2, 1), (1, 0), (1, 2)),
    "largest with a dilation, rounding up": lambda x: F.max_pool2d(x, 2, 3, 1, 2, ceil_mode=True),
    "largest with its places unread": lambda x: F.max_pool2d(x, 2, return_indices=True)[0],
    "mean, a number per axis": lambda x: F.avg_pool2d(x, (3, 2), (2, 1), (1, 0), False, False),
    "mean by a divisor": lambda x: F.avg_pool2d(x, 2, divisor_override=3),
    "mean by a divisor, rounding up": lambda x: F.avg_pool2d(x, 3, 2, 1, True, True, 5),
    "power": lambda x: F.lp_pool2d(x, 2, 2),
    "adaptive mean": lambda x: F.adaptive_avg_pool2d(x, (1, 2)),
    "adaptive mean to no divisor": lambda x: F.adaptive_avg_pool2d(x, (4, 5)),
    "adaptive mean to more": lambda x: F.adaptive_avg_pool2d(x, (8, 9)),
    "adaptive mean of one axis": lambda x: F.adaptive_avg_pool2d(x, (None, 2)),
    "adaptive maximum to one": lambda x: F.adaptive_max_pool2d(x, 1),
    "adaptive maximum": lambda x: F.adaptive_max_pool2d(x, (7, 4)),
    "adaptive maximum to no divisor": lambda x: F.adaptive_max_pool2d(x, (4, 5)),
    "adaptive maximum of one axis": lambda x: F.adaptive_max_pool2d(x, (None, 2)),  # type: ignore[arg-type]  # None keeps an axis
    "mean of a picture without channels": lambda x: F.avg_pool2d(x[:, 0], 2),
    "largest of a picture without channels": lambda x: F.max_pool2d(x[:, 0], 2),
    "adaptive mean of a picture without channels": lambda x: F.adaptive_avg_pool2d(x[:, 0], (7, 2)),
    "adaptive maximum of a picture without channels": lambda x: F.adaptive_max_pool2d(x[:, 0], (7, 2)),
}
QUICK = ("largest of (2, 3, 1) rounding up", "adaptive mean to no divisor", "adaptive maximum to no divisor")
POOLS = Kind(CALLS, quick=QUICK, x=(2, 3, 7, 8))


@pytest.mark.parametrize("name", POOLS.names)
def test_a_pool_keeps_its_numbers(name: str) -> None:
    assert POOLS.difference(name) <= TOLERANCE


@pytest.mark.slow
def test_canonical_pools_stay_as_they_are() -> None:
    assert POOLS.all.operations_again == POOLS.all.operations
