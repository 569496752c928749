"""Other spellings of the same calls, as people write them: each keeps its numbers, and its shape at every batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (everybody's name for it)
from torch import Tensor

from tests.frontend.calls import TOLERANCE, Kind

pytestmark = pytest.mark.slow  # all of them together
Calls = dict[str, Callable[[Tensor], Tensor]]
W = torch.linspace(-1, 1, 16).reshape(4, 4)
KERNEL = torch.linspace(-1, 1, 144).reshape(4, 4, 3, 3)
MASK = torch.ones(6, 6).tril().bool()


def total(parts: Iterable[torch.Tensor]) -> Any:
    """Python's own sum, which begins with the number 0."""
    return sum(parts)


def product(parts: Iterable[torch.Tensor]) -> Any:
    """Python's own product, which begins with the number 1."""
    return math.prod(parts)


SHAPES: Calls = {
    "movedim": lambda x: x.movedim(1, -1),
    "swapaxes": lambda x: x.swapaxes(1, 2),
    "rearranged to tokens and back": lambda x: x.flatten(2).transpose(1, 2).transpose(1, 2).view(x.shape),
    "unsqueezed and squeezed": lambda x: x[:, None].squeeze(1)[..., None].squeeze(-1),
    "select": lambda x: x[:, 1] + x.select(1, -1),
    "ellipsis and steps": lambda x: x[..., ::2, 1:-1],
    "stack": lambda x: torch.stack([x, -x], dim=2),
    "hstack": lambda x: torch.hstack([x, x]),
    "split": lambda x: torch.cat(x.split([1, 3], dim=1)[::-1], dim=1),
    "tensor_split": lambda x: torch.cat(torch.tensor_split(x, 3, dim=2), dim=1 + 1),
    "unbind": lambda x: total(x.unbind(1)),
    "repeat": lambda x: x.repeat(1, 2, 1, 3),
    "tile": lambda x: x.tile((1, 1, 2, 1)),
    "repeat_interleave": lambda x: x.repeat_interleave(2, dim=1),
    "roll": lambda x: x.roll((1, -2), dims=(2, 3)),
    "pixel shuffle": lambda x: F.pixel_shuffle(x, 2),
    "pixel unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "space to depth": lambda x: x.reshape(x.shape[0], 4, 3, 2, 3, 2).permute(0, 1, 3, 5, 2, 4).reshape(x.shape[0], -1, 3, 3),
    "channel shuffle": lambda x: F.channel_shuffle(x, 2),
    "padding by constants": lambda x: F.pad(x, (1, 0, 2, 1), value=0.5),
    "circular padding": lambda x: F.pad(x, (1, 1, 1, 1), mode="circular"),
    "replicate padding": lambda x: F.pad(x, (1, 1, 1, 1), mode="replicate"),
    "expand_as": lambda x: x[:, :1].expand_as(x) + x[:, :1].expand(-1, 4, -1, -1),
    "zeros and ones like": lambda x: torch.zeros_like(x) + torch.ones_like(x) * x + x.new_zeros(4, 1, 1) + torch.full_like(x, 2.0),
    "permute and reshape of the batch": lambda x: x.reshape(-1, 2, 6, 6).reshape(x.shape[0], -1),
}  # fmt: skip
ARITHMETIC: Calls = {
    "reversed operands": lambda x: 1 - x + 2 * x + 3.0,
    "division": lambda x: x / 2 + 1 / (x.abs() + 1),
    "powers": lambda x: x**2 + x.abs() ** 0.5 + (x.abs() + 1) ** -0.5 + 2**x + x**3,
    "rsqrt": lambda x: (x.abs() + 1).rsqrt() + x.square(),
    "alpha": lambda x: torch.add(x, x, alpha=2) - torch.sub(x, x, alpha=3),
    "addcmul": lambda x: torch.addcmul(x, x, x, value=0.5) + torch.addcdiv(x, x, x.abs() + 1),
    "lerp": lambda x: torch.lerp(x, x * 2, 0.3),
    "in place": lambda x: (x + 1).mul_(2).add_(1).clamp_(-1, 1),
    "in place on a part": lambda x: _assigned(x),
    "where": lambda x: torch.where(x > 0, x, 0.1 * x) + torch.where(x > 0, 1.0, x) + torch.where(x > 0, 1.0, 0.0),
    "masked_fill": lambda x: x.masked_fill(~MASK, -1e4).softmax(-1),
    "comparisons": lambda x: ((x > 0) & (x < 1) | ~(x >= -1)).float() + (x == 0).to(x.dtype),
    "clamp": lambda x: x.clamp(min=0) + x.clamp(max=0.5) + x.clip(-1, 1) + torch.clamp_min(x, 0.1),
    "maximum": lambda x: torch.maximum(x, -x) + torch.minimum(x, x * 2),
    "activations": lambda x: F.relu6(x) + F.selu(x) + F.celu(x) + F.hardtanh(x) + F.softsign(x) + F.logsigmoid(x) + F.hardswish(x),
    "prelu": lambda x: F.prelu(x, torch.tensor([0.1, 0.2, 0.3, 0.4])) + F.threshold(x, 0.1, 0.0),
    "glu": lambda x: F.glu(x, dim=1),
    "geglu": lambda x: product(part if place else F.gelu(part, approximate="tanh") for place, part in enumerate(x.chunk(2, 1))),
    "log": lambda x: torch.log1p(x.abs()) + torch.expm1(x) + torch.exp2(x),
    "angles": lambda x: torch.sin(x) + torch.cos(x) + torch.tan(x / 4),
    "integers": lambda x: x * (torch.arange(6) // 2) + torch.arange(6).float() % 4,
}
LAYERS: Calls = {
    "matmul": lambda x: x @ x.mT + torch.bmm(x.flatten(0, 1), x.flatten(0, 1)).view(x.shape),
    "linear by matmul": lambda x: x.movedim(1, -1) @ W + x.movedim(1, -1) @ W.T,
    "linear without bias": lambda x: F.linear(x.movedim(1, -1), W),
    "addmm": lambda x: torch.addmm(W[0], x.mean((2, 3)), W),
    "baddbmm": lambda x: torch.baddbmm(x.new_zeros(1), x[:, 0], x[:, 1], alpha=0.5),
    "outer product by einsum": lambda x: torch.einsum("b,c->bc", x.mean((1, 2, 3)), torch.arange(4.0)),
    "linear by einsum": lambda x: torch.einsum("bchw,cd->bdhw", x, W),
    "linear by einsum, turned": lambda x: torch.einsum("oc,bchw->bohw", W, x),
    "attention by einsum": lambda x: torch.einsum("bhij,bhjd->bhid", torch.einsum("bhid,bhjd->bhij", x, x).softmax(-1), x),
    "grouped convolution": lambda x: F.conv2d(x, KERNEL[:, :2], stride=2, padding=1, groups=2),
    "depthwise convolution": lambda x: F.conv2d(x, KERNEL[:, :1], padding="same", groups=4, dilation=2),
    "constant blur": lambda x: F.conv2d(x, torch.outer(W[0], W[1])[None, None].expand(4, 1, 4, 4), groups=4),
    "transposed convolution": lambda x: F.conv_transpose2d(x, KERNEL, stride=2, padding=1, output_padding=1),
    "attention with a mask": lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=MASK),
    "attention with a scale": lambda x: F.scaled_dot_product_attention(x, x, x, scale=1.0),
    "nearest": lambda x: F.interpolate(x, scale_factor=2) + F.interpolate(x, size=(12, 12), mode="nearest-exact"),
    "bilinear": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    "bilinear, corners aligned": lambda x: F.interpolate(x, (12, 12), mode="bilinear", align_corners=True),
    "bilinear, odd": lambda x: F.interpolate(x, size=(7, 10), mode="bilinear"),
    "pooling": lambda x: F.avg_pool2d(x, 2) + F.max_pool2d(x, 2) + F.adaptive_avg_pool2d(x, (3, 3)),
    "global pooling": lambda x: F.adaptive_avg_pool2d(x, 1) + x.mean([-2, -1], keepdim=True),
    "squeeze and excite": lambda x: x * torch.sigmoid(F.linear(x.mean((2, 3)), W))[:, :, None, None],
}  # fmt: skip
STATISTICS: Calls = {
    "layer norm": lambda x: F.layer_norm(x, (6,)) + F.layer_norm(x, x.shape[1:]),
    "group norm": lambda x: F.group_norm(x, 2) + F.instance_norm(x),
    "rms norm": lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) + F.rms_norm(x, (6,)),
    "normalize": lambda x: F.normalize(x, dim=1),
    "norms": lambda x: x.norm(dim=1, keepdim=True) + torch.linalg.vector_norm(x, dim=1, keepdim=True),
    "variance": lambda x: x.var(1, keepdim=True) + x.std((2, 3), keepdim=True) + x.var(dim=-1, correction=0, keepdim=True),
    "var_mean": lambda x: total(torch.var_mean(x, dim=(2, 3), keepdim=True)),
    "extremes": lambda x: x.amax(1, keepdim=True) - x.amin((2, 3), keepdim=True),
    "extremes without their places": lambda x: x.max(dim=1, keepdim=True).values + x.min(1, True)[0],
    "sums": lambda x: x.sum(1, keepdim=True) + x.sum(dim=(2, 3), keepdim=True) + x.sum(-1)[..., None],
    "softmax": lambda x: F.softmax(x, dim=1) + F.log_softmax(x, -1) + x.softmax(-2, dtype=torch.float32) + F.softmin(x, dim=1),
    "logsumexp": lambda x: x.logsumexp(1, keepdim=True),
}  # fmt: skip


def _assigned(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, 0] = 0
    x[:, 1:3] = x[:, 2:4] * 2
    return x


KINDS = {
    "shapes": Kind(SHAPES, x=(2, 4, 6, 6)),
    "arithmetic": Kind(ARITHMETIC, x=(2, 4, 6, 6)),
    "layers": Kind(LAYERS, x=(2, 4, 6, 6)),
    "statistics": Kind(STATISTICS, x=(2, 4, 6, 6)),
}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, calls in KINDS.items() for name in calls.calls])
def test_a_spelling_keeps_its_numbers(kind: str, name: str) -> None:
    assert KINDS[kind].difference(name) <= TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
def test_canonical_spellings_stay_as_they_are(kind: str) -> None:
    assert KINDS[kind].all.operations_again == KINDS[kind].all.operations
