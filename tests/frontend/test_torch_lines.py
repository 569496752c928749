"""Networks of signals: convolutions, pools, norms and resizing along one axis are those of pictures with one row."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (everybody's name for it)
from torch import nn

from tests.frontend.calls import TOLERANCE, Call, Kind, waves

torch.manual_seed(0)
CALLS: dict[str, Call] = {
    "a convolution": nn.Conv1d(4, 6, 3),
    "with stride and padding": nn.Conv1d(4, 6, 3, stride=2, padding=1),
    "with a dilation": nn.Conv1d(4, 6, 3, dilation=2, padding=2),
    "with groups, without a bias": nn.Conv1d(4, 6, 3, groups=2, bias=False),
    "of one place": nn.Conv1d(4, 5, 1),
    "'same' padding": nn.Conv1d(4, 6, 3, padding="same", dilation=3),
    "'same' padding of an even kernel": nn.Conv1d(4, 6, 4, padding="same"),
    "'valid' padding": nn.Conv1d(4, 6, 2, padding="valid"),
    "circular padding": nn.Conv1d(4, 6, 3, padding=1, padding_mode="circular"),
    "reflecting padding": nn.Conv1d(4, 6, 3, padding=2, padding_mode="reflect"),
    "repeating padding": nn.Conv1d(4, 6, 3, padding=1, padding_mode="replicate"),
    "weights that are no parameters": lambda x: F.conv1d(x, waves(5, 4, 3), waves(5), padding=1),
    "depthwise and causal": lambda x: F.conv1d(F.pad(x, (2, 0)), waves(4, 1, 3), groups=4),
    "between tokens": (lambda x, conv: conv(x.transpose(1, 2)).transpose(1, 2), nn.Conv1d(9, 9, 3, padding=1)),
    "transposed": nn.ConvTranspose1d(4, 6, 3),
    "transposed with a stride": nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1),
    "transposed with groups": nn.ConvTranspose1d(4, 6, 4, stride=2, padding=1, groups=2),
    "transposed with a dilation": nn.ConvTranspose1d(4, 6, 3, dilation=2),
    "batch norm": nn.BatchNorm1d(4),
    "instance norm": nn.InstanceNorm1d(4, affine=True),
    "group norm": nn.GroupNorm(2, 4),
    "group norm of channels alone": lambda x: F.group_norm(x[..., 0], 2),
    "mean pool": lambda x: F.avg_pool1d(x, 3, 2, 1),
    "mean pool that does not count padding": lambda x: F.avg_pool1d(x, 3, 2, 1, count_include_pad=False),
    "mean pool rounding up": lambda x: F.avg_pool1d(x, 2, 2, ceil_mode=True),
    "max pool": lambda x: F.max_pool1d(x, 3, 2, 1),
    "max pool with a dilation": lambda x: F.max_pool1d(x, 2, 2, 0, 2),
    "max pool rounding up": lambda x: F.max_pool1d(x, 2, 2, ceil_mode=True),
    "power pool": lambda x: F.lp_pool1d(x.abs() + 0.1, 2, 3),
    "adaptive mean": lambda x: F.adaptive_avg_pool1d(x, 3),
    "adaptive mean to one": lambda x: F.adaptive_avg_pool1d(x, 1),
    "adaptive mean to no divisor": lambda x: F.adaptive_avg_pool1d(x, 4),
    "adaptive maximum": lambda x: F.adaptive_max_pool1d(x, 3),
    "adaptive maximum to one": lambda x: F.adaptive_max_pool1d(x, 1),
    "adaptive maximum to no divisor": lambda x: F.adaptive_max_pool1d(x, 4),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "nearest to a size": lambda x: F.interpolate(x, size=7),
    "nearest, exact, to a size": lambda x: F.interpolate(x, size=13, mode="nearest-exact"),
    "linear": lambda x: F.interpolate(x, scale_factor=2, mode="linear"),
    "linear by a fraction": lambda x: F.interpolate(x, scale_factor=1.7, mode="linear"),
    "linear, ends aligned": lambda x: F.interpolate(x, size=13, mode="linear", align_corners=True),
    "padding by reflection": lambda x: F.pad(x, (2, 1), mode="reflect"),
    "padding by repetition": lambda x: F.pad(x, (2, 1), mode="replicate"),
    "padding around": lambda x: F.pad(x, (2, 1), mode="circular"),
    "padding around what is cut": lambda x: F.pad(x, (-1, 2), mode="circular"),
}


LINES = Kind(CALLS, quick=("'same' padding of an even kernel", "transposed with a stride", "group norm", "max pool"), x=(2, 4, 9))


@pytest.mark.parametrize("name", LINES.names)
def test_a_call_along_one_axis_keeps_its_numbers(name: str) -> None:
    assert LINES.difference(name) <= TOLERANCE


def test_every_layer_along_one_axis_reads_the_batch_in_front() -> None:
    assert not LINES.few.behind


@pytest.mark.slow
def test_canonical_calls_along_one_axis_stay_as_they_are() -> None:
    assert LINES.all.operations_again == LINES.all.operations
