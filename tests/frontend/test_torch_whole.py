"""Networks of other ranks and layouts, compiled as a whole: they are what torch computes, and no element depends on another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (everybody's name for it)
from torch import Tensor, nn

import hecompile

LEAST_DB = 40.0


class Signal(nn.Module):
    """Lines: down, through attention of every head, and up to a size that is no multiple."""

    inputs = (2, 4, 9)

    def __init__(self) -> None:
        super().__init__()
        self.down, self.qkv = nn.Conv1d(4, 8, 3, stride=2, padding=1), nn.Conv1d(8, 24, 1)
        self.norm, self.up = nn.GroupNorm(2, 8), nn.ConvTranspose1d(8, 4, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.down(x)
        q, k, v = self.qkv(self.norm(h)).reshape(2 * x.shape[0], 12, -1).chunk(3, dim=1)
        scores = torch.einsum("bct,bcs->bts", q, k).softmax(-1)
        h = h + torch.einsum("bts,bcs->bct", scores, v).reshape(h.shape)
        return F.interpolate(self.up(h), size=9) + x


class Film(nn.Module):
    """Films: pictures, then frames, then both, and attention between frames with these first."""

    inputs = (2, 3, 4, 6, 6)

    def __init__(self) -> None:
        super().__init__()
        self.pictures, self.frames = nn.Conv3d(3, 4, (1, 3, 3), padding=(0, 1, 1)), nn.Conv3d(4, 4, (3, 1, 1), padding=(1, 0, 0))
        self.both, self.attention = nn.Conv3d(4, 4, 3, (1, 2, 2), 1), nn.MultiheadAttention(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.both(F.silu(self.frames(self.pictures(x))))
        tokens = h.mean((3, 4)).permute(2, 0, 1)  # (F, B, C)
        mixed, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return F.interpolate(h + mixed.permute(1, 2, 0)[..., None, None], size=(4, 5, 7))


class Halves(nn.Module):
    """Two answers in one batch, as guidance does it, and pictures put together from parts."""

    inputs = (2, 4, 6, 6)

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.mix = nn.Conv2d(4, 4, 3, padding="same", dilation=(1, 2)), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.conv(torch.cat([x, x.flip(3)])).chunk(2)
        wide = x.new_empty(x.shape[0], 4, 6, 12)
        wide[..., ::2], wide[..., 1::2] = first, second
        tokens = wide.flatten(2).permute(2, 0, 1).reshape(-1, 4)
        return self.mix(tokens).view(72, -1, 4).permute(1, 2, 0) + F.adaptive_max_pool2d(wide, 1).flatten(2)


NETWORKS = (Signal, Film, Halves)
CASES = [
    *(pytest.param(network, "clear", marks=[] if network is Halves else [pytest.mark.slow]) for network in NETWORKS),
    *(pytest.param(network, "bfv", marks=pytest.mark.fhe) for network in NETWORKS),
]


@pytest.mark.parametrize(("network", "backend"), CASES)
def test_a_network_of_another_layout_compiles_and_runs(network: type[Signal | Film | Halves], backend: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = network().eval()
    x = torch.randn(3, *network.inputs[1:])
    options = hecompile.CompileOptions(backend=backend)
    hecompile.compile(module, tmp_path / "m.he", options=options, example_inputs=[torch.randn(network.inputs)])
    loaded = hecompile.load(tmp_path / "m.he", policy="simulation" if backend == "clear" else "strict")
    with torch.no_grad():
        expected, result, alone = module(x), loaded(x), loaded(x[1:2])
    error = float((result - expected).square().mean())
    assert 10 * torch.log10(expected.abs().max() ** 2 / error) >= LEAST_DB
    assert torch.equal(alone, result[1:2])
