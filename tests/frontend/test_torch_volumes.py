"""Networks of films: layers, pools, resizing and padding along three axes are those of pictures, with frames in the batch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (everybody's name for it)
from torch import nn

from tests.frontend.calls import TOLERANCE, Call, Kind

torch.manual_seed(0)
CALLS: dict[str, Call] = {
    "a kernel of one frame": nn.Conv3d(4, 6, (1, 3, 3), padding=(0, 1, 1)),
    "of one frame with strides": nn.Conv3d(4, 6, (1, 3, 3), padding=(0, 1, 1), stride=(1, 2, 1)),
    "of one frame with groups and dilation": nn.Conv3d(4, 6, (1, 3, 3), padding=(0, 2, 1), dilation=(1, 2, 1), groups=2),
    "of one frame, with frames of padding": nn.Conv3d(4, 6, (1, 3, 3), padding=1),
    "of one frame, every other frame": nn.Conv3d(4, 6, 1, stride=2),
    "of one place": nn.Conv3d(4, 6, 1),
    "patches": nn.Conv3d(4, 6, (1, 2, 2), stride=(1, 2, 2)),
    "over frames": nn.Conv3d(4, 6, (3, 1, 1), padding=(1, 0, 0)),
    "over frames with a dilation": nn.Conv3d(4, 6, (2, 1, 1), dilation=(2, 1, 1)),
    "over frames with strides": nn.Conv3d(4, 6, (3, 1, 1), padding=(1, 0, 0), stride=(2, 1, 2)),
    "over frames with groups": nn.Conv3d(4, 6, (3, 1, 1), padding=(1, 0, 0), groups=2),
    "over frames with padded pictures": nn.Conv3d(4, 6, (3, 1, 1), padding=1),
    "over all axes": nn.Conv3d(4, 6, 3, padding=1),
    "over all axes with strides": nn.Conv3d(4, 6, 3, padding=1, stride=2),
    "over all axes with dilations": nn.Conv3d(4, 6, 3, padding=(2, 2, 1), dilation=(2, 2, 1)),
    "over all axes with groups": nn.Conv3d(4, 8, (2, 3, 2), (1, 2, 1), (1, 0, 2), (2, 1, 3), groups=4),
    "boxes side by side": nn.Conv3d(4, 6, (3, 2, 2), stride=(3, 2, 2)),
    "'same' padding": nn.Conv3d(4, 6, (2, 4, 3), padding="same"),
    "circular padding": nn.Conv3d(4, 6, 3, padding=1, padding_mode="circular"),
    "repeating padding": nn.Conv3d(4, 6, 3, padding=1, padding_mode="replicate"),
    "reflecting padding": nn.Conv3d(4, 6, 3, padding=(1, 2, 1), padding_mode="reflect"),
    "transposed, of one frame": nn.ConvTranspose3d(4, 6, (1, 4, 4), stride=(1, 2, 2), padding=(0, 1, 1), groups=2),
    "transposed over frames": nn.ConvTranspose3d(4, 6, (2, 1, 1), stride=(2, 1, 1)),
    "transposed over all axes": nn.ConvTranspose3d(4, 6, 3, padding=1),
    "transposed with everything": nn.ConvTranspose3d(
        4, 6, (3, 2, 3), (2, 1, 3), (1, 0, 1), (1, 0, 2), groups=2, dilation=(2, 2, 1)
    ),
    "batch norm": nn.BatchNorm3d(4),
    "instance norm": nn.InstanceNorm3d(4),
    "group norm": nn.GroupNorm(2, 4),
    "mean pool of frames": lambda x: F.avg_pool3d(x, (1, 2, 2)),
    "mean pool": lambda x: F.avg_pool3d(x, (3, 2, 2), 1, (1, 1, 0)),
    "mean pool that does not count padding, rounding up": lambda x: F.avg_pool3d(x, 3, 2, 1, True, False),
    "mean pool by a divisor": lambda x: F.avg_pool3d(x, 3, 2, 1, ceil_mode=True, divisor_override=5),
    "max pool over frames": lambda x: F.max_pool3d(x, (3, 1, 1), 1, (1, 0, 0)),
    "max pool": lambda x: F.max_pool3d(x, 2, 1, 1, (1, 2, 3)),
    "max pool rounding up": lambda x: F.max_pool3d(x, 2, 2, ceil_mode=True),
    "adaptive mean": lambda x: F.adaptive_avg_pool3d(x, (1, 3, 2)),
    "adaptive mean to no divisor": lambda x: F.adaptive_avg_pool3d(x, (2, 4, 6)),
    "adaptive maximum to one": lambda x: F.adaptive_max_pool3d(x, 1),
    "adaptive maximum": lambda x: F.adaptive_max_pool3d(x, (3, 3, 2)),
    "adaptive maximum to no divisor": lambda x: F.adaptive_max_pool3d(x, (2, 4, 5)),
    "response norm": nn.LocalResponseNorm(3),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "nearest of pictures": lambda x: F.interpolate(x, scale_factor=(1, 2, 3)),
    "nearest to sizes": lambda x: F.interpolate(x, size=(4, 7, 5)),
    "nearest, exact, to sizes": lambda x: F.interpolate(x, size=(2, 7, 5), mode="nearest-exact"),
    "trilinear": lambda x: F.interpolate(x, scale_factor=2, mode="trilinear"),
    "trilinear of pictures, ends aligned": lambda x: F.interpolate(x, size=(3, 7, 5), mode="trilinear", align_corners=True),
    "padding by repetition": lambda x: F.pad(x, (1, 1, 0, 2, 1, 0), mode="replicate"),
    "padding by reflection": lambda x: F.pad(x, (1, 1, 0, 2, 1, 0), mode="reflect"),
    "padding around": lambda x: F.pad(x, (1, 1, 0, 2, 1, 0), mode="circular"),
}  # fmt: skip
FILMS = Kind(
    CALLS, quick=("over frames with strides", "over all axes with groups", "transposed with everything"), x=(2, 4, 3, 6, 6)
)


@pytest.mark.parametrize("name", FILMS.names)
def test_a_call_along_three_axes_keeps_its_numbers(name: str) -> None:
    assert FILMS.difference(name) <= TOLERANCE


def test_every_layer_of_films_reads_the_batch_in_front() -> None:
    assert not FILMS.few.behind


@pytest.mark.slow
def test_canonical_calls_along_three_axes_stay_as_they_are() -> None:
    assert FILMS.all.operations_again == FILMS.all.operations
