"""A DDPM U-Net of the kind that people write themselves: functional calls, einsum attention, loops, Mish, odd spellings."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812  (everybody's name for it)
from torch import nn

__all__ = ["HandwrittenUNet", "handwritten_inputs"]


class SinusoidalPosition(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, time: torch.Tensor) -> torch.Tensor:
        half = self.dim // 2
        steps = torch.exp(torch.arange(half, device=time.device) * -(math.log(10000) / (half - 1)))
        angles = time[:, None] * steps[None, :]
        return torch.cat((angles.sin(), angles.cos()), dim=-1)  # (B, dim)


class WeightStandardizedConv(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.weight.mean(dim=(1, 2, 3), keepdim=True)
        var = self.weight.var(dim=(1, 2, 3), unbiased=False, keepdim=True)
        return F.conv2d(x, (self.weight - mean) * (var + 1e-5).rsqrt(), self.bias, self.stride, self.padding)


class ChannelNorm(nn.Module):
    """A layer norm over the channels, by hand."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.g = nn.Parameter(1 + 0.1 * torch.randn(1, dim, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        var = torch.var(x, dim=1, unbiased=False, keepdim=True)
        mean = torch.mean(x, dim=1, keepdim=True)
        return (x - mean) / (var + 1e-5).sqrt() * self.g


class Residual(nn.Module):
    def __init__(self, dim: int, out: int, time_dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Mish(), nn.Linear(time_dim, 2 * out))
        self.conv1, self.conv2 = WeightStandardizedConv(dim, out, 3, padding=1), nn.Conv2d(out, out, 3, padding="same")
        self.norm1, self.norm2 = nn.GroupNorm(2, out), nn.BatchNorm2d(out)
        self.shortcut = nn.Conv2d(dim, out, 1) if dim != out else nn.Identity()

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        scale, shift = self.mlp(time)[..., None, None].chunk(2, dim=1)
        h = F.mish(self.norm1(self.conv1(x)) * (scale + 1) + shift)
        h = self.norm2(self.conv2(F.dropout(h, 0.1, self.training)))
        return (h * torch.tanh(F.softplus(h)) + self.shortcut(x)) / math.sqrt(2)


class LinearAttention(nn.Module):
    def __init__(self, dim: int, heads: int = 2, width: int = 4) -> None:
        super().__init__()
        self.heads, self.scale = heads, width**-0.5
        self.norm = ChannelNorm(dim)
        self.to_qkv = nn.Conv2d(dim, 3 * heads * width, 1, bias=False)
        self.to_out = nn.Conv2d(heads * width, dim, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, _, h, w = x.shape
        q, k, v = (part.reshape(b, self.heads, -1, h * w) for part in self.to_qkv(self.norm(x)).chunk(3, dim=1))
        context = torch.einsum("b h d n, b h e n -> b h d e", k.softmax(dim=-1), v / (h * w))
        out = torch.einsum("b h d e, b h d n -> b h e n", context, q.softmax(dim=-2) * self.scale)
        return self.to_out(out.reshape(b, -1, h, w)) + x


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)  # (B, HW, C)
        q, k, v = self.qkv(tokens).view(b, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        scores = torch.einsum("bhid,bhjd->bhij", q, k) * (c // self.heads) ** -0.5
        scores = scores - scores.amax(dim=-1, keepdim=True).detach()
        out = torch.einsum("bhij,bhjd->bhid", scores.softmax(-1), v)
        return x + self.out(out.permute(0, 2, 1, 3).reshape(b, h * w, c)).transpose(1, 2).reshape(b, c, h, w)


class HandwrittenUNet(nn.Module):
    """(B, 3, 8, 8) and one step per picture, with a label that may be any of four."""

    def __init__(self, dim: int = 8, levels: tuple[int, ...] = (1, 2)) -> None:
        super().__init__()
        torch.manual_seed(0)
        time_dim, dims = 4 * dim, [dim, *(dim * level for level in levels)]
        self.time = nn.Sequential(SinusoidalPosition(dim), nn.Linear(dim, time_dim), nn.GELU(), nn.Linear(time_dim, time_dim))
        self.label = nn.Embedding(4, time_dim)
        self.first = nn.Conv2d(3, dim, 7, padding=3)
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        pairs = list(pairwise(dims))
        for small, large in pairs:
            self.downs.append(
                nn.ModuleList([Residual(small, large, time_dim), LinearAttention(large), nn.Conv2d(large, large, 4, 2, 1)])
            )
        self.middle1, self.attention = Residual(dims[-1], dims[-1], time_dim), Attention(dims[-1])
        self.middle2 = Residual(dims[-1], dims[-1], time_dim)
        for small, large in reversed(pairs):
            self.ups.append(
                nn.ModuleList(
                    [nn.ConvTranspose2d(large, large, 4, 2, 1), Residual(2 * large, small, time_dim), LinearAttention(small)]
                )
            )
        self.last = nn.Sequential(Residual(2 * dim, dim, time_dim), nn.Conv2d(dim, 3, 1))
        with torch.no_grad():
            for name, buffer in self.named_buffers():
                if name.endswith("running_mean"):
                    buffer.normal_(0, 0.1)
                elif name.endswith("running_var"):
                    buffer.uniform_(0.5, 1.5)

    def forward(self, x: torch.Tensor, time: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        x = self.first(2 * x - 1)
        kept, t = x.clone(), self.time(time) + self.label(label)
        skips = []
        for stage in self.downs:
            block, attention, down = stage.children()
            x = attention(block(x, t))
            skips.append(x)
            x = down(x)
        x = self.middle2(self.attention(self.middle1(x, t)), t)
        for stage in self.ups:
            up, block, attention = stage.children()
            x = F.leaky_relu(up(x), 0.2)
            x = attention(block(torch.cat((x, skips.pop()), dim=1), t))
        block, project = self.last
        return project(block(torch.cat((x, kept), dim=1), t)).clamp(-4, 4)


def handwritten_inputs(batch: int = 2) -> dict[str, torch.Tensor]:
    """Seeded arguments for `HandwrittenUNet`."""
    generator = torch.Generator().manual_seed(batch)
    return {
        "x": torch.randn(batch, 3, 8, 8, generator=generator),
        "time": torch.arange(1.0, batch + 1) * 100,
        "label": torch.arange(batch) % 4,
    }
