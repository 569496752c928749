"""The linear forms against torch, over strides, paddings, dilations, groups and kernels."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from hecompile.errors import ProtocolError
from hecompile.ir import linear as forms
from hecompile.ir.linear import Array, Geometry, correlate


def run(form: tuple[Geometry, Array], tensor: torch.Tensor) -> torch.Tensor:
    geometry, weights = form
    picture = geometry.to_picture(tensor.numpy())
    leading = tuple(tensor.shape[:-1]) if geometry.tokens else ()
    return torch.from_numpy(geometry.from_picture(correlate(picture, weights, geometry.taps, geometry.grid), leading))


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), list(product((1, 2, 3, 4), (1, 2, 3), (0, 1, 2), (1, 2))))
def test_conv2d_equals_torch(kernel: int, stride: int, padding: int, dilation: int) -> None:
    if (kernel - 1) * dilation + 1 > 6 + 2 * padding:
        return  # torch refuses a kernel larger than the padded picture
    x, weight = random(2, 4, 7, 6), random(6, 2, kernel, kernel)
    form = forms.conv2d(weight.numpy(), (7, 6), (stride, stride), (padding, padding), (dilation, dilation), 2)
    expected = torch.nn.functional.conv2d(x, weight, None, stride, padding, dilation, 2)
    torch.testing.assert_close(run(form, x), expected)


@pytest.mark.parametrize(("kernel", "stride", "padding", "extra"), list(product((2, 3, 4), (1, 2, 3), (0, 1), (0, 1))))
def test_transposed_conv_equals_torch(kernel: int, stride: int, padding: int, extra: int) -> None:
    if extra >= stride:
        return  # torch refuses output padding that is not below the stride
    x, weight = random(2, 4, 5, 3), random(4, 3, kernel, kernel)
    form = forms.conv_transpose2d(weight.numpy(), (5, 3), (stride,) * 2, (padding,) * 2, (extra,) * 2, (1, 1), 2)
    expected = torch.nn.functional.conv_transpose2d(x, weight, None, stride, padding, extra, 2)
    torch.testing.assert_close(run(form, x), expected)


@pytest.mark.parametrize(("kernel", "factor", "padding"), list(product((1, 3), ((2, 2), (3, 1)), (0, 1))))
def test_upsampling_folds_into_the_conv(kernel: int, factor: tuple[int, int], padding: int) -> None:
    x, weight = random(2, 4, 3, 5), random(6, 4, kernel, kernel)
    form = forms.upsampled_conv2d(weight.numpy(), (3, 5), factor, (padding,) * 2, (1, 1), 1)
    enlarged = x.repeat_interleave(factor[0], 2).repeat_interleave(factor[1], 3)
    torch.testing.assert_close(run(form, x), torch.nn.functional.conv2d(enlarged, weight, None, 1, padding))


@pytest.mark.parametrize("shape", [(3, 5), (2, 4, 5), (2, 3, 4, 5)])
def test_linear_equals_torch(shape: tuple[int, ...]) -> None:
    x, weight = random(*shape), random(7, 5)
    form = forms.linear(weight.numpy(), int(np.prod(shape[1:-1])))
    torch.testing.assert_close(run(form, x), torch.nn.functional.linear(x, weight))


def test_a_geometry_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ProtocolError, match="does not cover"):
        Geometry(False, 1, (4, 4), (1, 1), ((0, 0),), (2, 2), (1, 1), 1, (4, 4))
    with pytest.raises(ProtocolError, match="taps repeated"):
        Geometry(False, 1, (4, 4), (1, 1), ((0, 0), (0, 0)), (4, 4), (1, 1), 1, (4, 4))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([1, 2, 3], [[1, 2, 3]]),
        ([forms.MOST_CHANNELS], [[forms.MOST_CHANNELS]]),
        ([600_000, 400_000, 60_000, 5], [[600_000, 400_000], [60_000, 5]]),
        ([forms.MOST_CHANNELS, 1, forms.MOST_CHANNELS], [[forms.MOST_CHANNELS], [1], [forms.MOST_CHANNELS]]),
    ],
)
def test_layers_are_stacked_as_far_as_a_geometry_goes(rows: list[int], expected: list[list[int]]) -> None:
    """As the modulations of Flux, which all read one value: a million rows and more."""
    assert [rows[places] for places in forms.row_groups(rows)] == expected
