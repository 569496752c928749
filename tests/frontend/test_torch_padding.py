"""Padding of pictures: in every mode, on some sides only, negative, and 'same' of convolutions, one number per axis."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (everybody's name for it)
from torch import nn

from tests.frontend.calls import TOLERANCE, Call, Kind

torch.manual_seed(0)
CALLS: dict[str, Call] = {
    "'same' of a pair of dilations": nn.Conv2d(4, 6, 3, padding="same", dilation=(1, 2)),
    "'same' of another pair": nn.Conv2d(4, 6, 3, padding="same", dilation=(3, 1)),
    "'same' of an even kernel": nn.Conv2d(4, 6, 4, padding="same"),
    "'same' of a kernel that is even one way": nn.Conv2d(4, 6, (2, 3), padding="same"),
    "'same' of an even kernel with dilations": nn.Conv2d(4, 6, 2, padding="same", dilation=(1, 3)),
    "'same' of an even kernel with groups": nn.Conv2d(4, 6, (4, 2), padding="same", groups=2),
    "'same' of an even kernel, circular": nn.Conv2d(4, 6, (2, 3), padding="same", padding_mode="circular"),
    "'same' of a line": nn.Conv2d(4, 6, (1, 3), padding="same"),
    "'valid' with a stride": nn.Conv2d(4, 6, 3, padding="valid", stride=2),
    "a number per axis": nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 2), groups=2),
    "a number per axis, transposed": nn.ConvTranspose2d(4, 6, (3, 2), (3, 1), (1, 0), (2, 0), groups=2, dilation=(1, 2)),
    "transposed to a size": (lambda x, conv: conv(x, output_size=(12, 12)), nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1)),
    "every module": (
        lambda x, *pads: sum(pad(x) for pad in pads),
        nn.ZeroPad2d(1), nn.ReflectionPad2d(1), nn.ReplicationPad2d(1), nn.CircularPad2d(1), nn.ConstantPad2d(1, 2.0),
    ),
    "of channels": lambda x: F.pad(x, (0, 0, 0, 0, 1, 2)),
    "that cuts": lambda x: F.pad(x, (-1, 2, 1, -2, 1, 0), value=0.5),
    "of whole numbers": lambda x: F.pad((3 * x).long(), (1, 1), value=2),
    "of truths": lambda x: F.pad(x > 0, (1, 1), value=True).float(),
    "by reflection on one side": lambda x: F.pad(x, (0, 0, 0, 2), mode="reflect"),
    "by repetition that cuts": lambda x: F.pad(x, (-1, 2, 0, -1), mode="replicate"),
    "around what is cut": lambda x: F.pad(x, (-1, 2, 1, -1), mode="circular"),
    "by reflection, of a picture without channels": lambda x: F.pad(x[:, 0], (1, 2), mode="reflect"),
}  # fmt: skip
PADDING = Kind(CALLS, quick=("'same' of a pair of dilations", "'same' of an even kernel", "around what is cut"), x=(2, 4, 6, 6))


@pytest.mark.parametrize("name", PADDING.names)
def test_padding_keeps_its_numbers(name: str) -> None:
    assert PADDING.difference(name) <= TOLERANCE


@pytest.mark.slow
def test_canonical_padding_stays_as_it_is() -> None:
    assert PADDING.all.operations_again == PADDING.all.operations
