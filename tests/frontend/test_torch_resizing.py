"""Resizing by any factor and to any size: which entries, or with which weights, is what torch's own call does."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (everybody's name for it)
from torch import Tensor, nn

from hecompile.frontend.sources import load_source
from hecompile.passes.canonicalize import Canonicalize
from hecompile.passes.trace import Trace
from tests.frontend.calls import TOLERANCE, Call, Calls, Kind

FACTORS = (0.5, 1.5, 2.5, 1 / 3, (0.5, 2.0), (2.0, 1.0), 3.0)
SIZES = ((7, 13), (3, 3), (4, 5), (12, 6), (1, 1), 13)


def to_size(size: object, mode: str, corners: bool | None) -> Call:
    return lambda x: F.interpolate(x, size=size, mode=mode, align_corners=corners)  # type: ignore[arg-type]


def by_factor(factor: object, mode: str, corners: bool | None, recomputed: bool) -> Call:
    return lambda x: F.interpolate(x, None, factor, mode, corners, recomputed)  # type: ignore[arg-type]


MODES = (("nearest", None), ("nearest-exact", None), ("bilinear", False), ("bilinear", True))
CALLS: dict[str, Call] = {
    **{f"{mode} to {size}, {corners}": to_size(size, mode, corners) for size, (mode, corners) in product(SIZES, MODES)},
    **{
        f"{mode} by {factor}, {corners}, {again}": by_factor(factor, mode, corners, again)
        for factor, (mode, corners), again in product(FACTORS, MODES, (False, True))
    },
    "bicubic": lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"),
    "bicubic by a fraction": lambda x: F.interpolate(x, scale_factor=1.7, mode="bicubic"),
    "bicubic, corners aligned": lambda x: F.interpolate(x, size=(9, 4), mode="bicubic", align_corners=True),
    "bilinear against steps": lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True),
    "bicubic against steps": lambda x: F.interpolate(x, size=(4, 3), mode="bicubic", antialias=True),
    "area": lambda x: F.interpolate(x, size=(3, 2), mode="area"),
    "area to no divisor": lambda x: F.interpolate(x, size=(4, 5), mode="area"),
    "a line to a picture": lambda x: F.interpolate(x[:, :, :1, :1], size=(5, 6)),
}
QUICK = ("nearest by 0.5, None, False", "nearest to (7, 13), None", "bilinear to (4, 5), True", "bicubic against steps")
RESIZING = Kind(CALLS, quick=QUICK, x=(2, 4, 6, 6))


@pytest.mark.parametrize("name", RESIZING.names)
def test_resizing_keeps_its_numbers(name: str) -> None:
    assert RESIZING.difference(name) <= TOLERANCE


@pytest.mark.slow
def test_canonical_resizing_stays_as_it_is() -> None:
    assert RESIZING.all.operations_again == RESIZING.all.operations


def operations(call: Call) -> list[str]:
    """The short names of what a call becomes."""
    graph = Canonicalize().run(Trace().run(load_source(Calls({"call": call}), [torch.ones(2, 4, 6, 6)])))
    return [str(node.target).split(".")[1] for node in graph.nodes if node.op == "call_function"][1:]


def test_whole_factors_stay_an_upsampling_that_a_layer_can_take_in() -> None:
    assert operations((lambda x, conv: conv(F.interpolate(x, scale_factor=2)), nn.Conv2d(4, 4, 3))) == [
        "upsample_nearest2d",
        "conv2d",
    ]


def test_half_a_picture_is_a_slice_along_each_axis() -> None:
    assert operations(lambda x: F.interpolate(x, scale_factor=0.5)) == ["slice", "slice"]


def test_a_size_that_stays_is_no_operation() -> None:
    def call(x: Tensor) -> Tensor:
        return F.interpolate(x, size=(6, 6)) + 1

    assert operations(call) == ["add"]
