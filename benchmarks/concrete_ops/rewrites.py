"""Pieces of UNets in other words: what Concrete ML refuses as one op and takes as several, with the same values."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["ConcatConv", "FoldedNorm", "NearestByCat", "SummedConv", "TransposedByPhases"]


class FoldedNorm(nn.Module):
    """GroupNorm with frozen statistics, folded into the conv that follows: one conv.

    `mean` and `deviation` (C) are of a calibration; the values are those of the norm where its own statistics agree. The conv must
    not pad: zeros come after the norm, where the folded conv would read them before it.
    """

    def __init__(self, norm: nn.GroupNorm, conv: nn.Conv2d, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        super().__init__()
        scale = norm.weight.detach() / deviation
        shift = norm.bias.detach() - mean * scale
        self.conv = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, padding=0)  # type: ignore[arg-type]
        self.conv.weight.data = conv.weight.detach() * scale[None, :, None, None]
        bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
        self.conv.bias = nn.Parameter(bias + (conv.weight.detach() * shift[None, :, None, None]).sum(dim=(1, 2, 3)))

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return self.conv(value)


class NearestByCat(nn.Module):
    """Nearest upsampling by two: each entry beside itself, each row below itself."""

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        _, channels, height, width = value.shape
        wide = torch.cat([value.reshape(-1, channels, height, width, 1)] * 2, dim=4).reshape(-1, channels, height, 2 * width)
        tall = torch.cat([wide.reshape(-1, channels, height, 1, 2 * width)] * 2, dim=3)
        return tall.reshape(-1, channels, 2 * height, 2 * width)


class ConcatConv(nn.Module):
    """Two values side by side, then a conv; the second is derived from the first so that there is one input."""

    def __init__(self, first: nn.Conv2d, conv: nn.Conv2d) -> None:
        super().__init__()
        self.first, self.conv = first, conv

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.cat([value, self.first(value)], dim=1))


class SummedConv(nn.Module):
    """The same as `ConcatConv`: a conv of each half of the channels, added."""

    def __init__(self, original: ConcatConv) -> None:
        super().__init__()
        self.first, conv = original.first, original.conv
        half = conv.in_channels - original.first.out_channels
        size, padding = conv.kernel_size, conv.padding
        self.left = nn.Conv2d(half, conv.out_channels, size, padding=padding)  # type: ignore[arg-type]
        self.right = nn.Conv2d(conv.in_channels - half, conv.out_channels, size, padding=padding, bias=False)  # type: ignore[arg-type]
        self.left.weight.data, self.left.bias = conv.weight.detach()[:, :half], conv.bias
        self.right.weight.data = conv.weight.detach()[:, half:]

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return self.left(value) + self.right(self.first(value))


class TransposedByPhases(nn.Module):
    """A transposed convolution (4x4, stride 2, padding 1) as one conv, a channel per phase: the client puts them together."""

    def __init__(self, original: nn.ConvTranspose2d) -> None:
        super().__init__()
        weight = original.weight.detach()  # (C, O, 4, 4)
        channels, outputs = weight.shape[:2]
        self.conv = nn.Conv2d(channels, 4 * outputs, 3, padding=1)
        kernel = torch.zeros(outputs, 2, 2, channels, 3, 3)
        for ky in range(4):
            for kx in range(4):
                (y, ry), (x, rx) = divmod(ky - 1, 2), divmod(kx - 1, 2)
                kernel[:, ry, rx, :, 1 - y, 1 - x] = weight[:, :, ky, kx].T
        self.conv.weight.data = kernel.reshape(4 * outputs, channels, 3, 3)
        bias = torch.zeros(outputs) if original.bias is None else original.bias.detach()
        self.conv.bias = nn.Parameter(bias.repeat_interleave(4))

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return self.conv(value)
