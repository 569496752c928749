"""Steps of generated networks: each takes a value of one form to another, with layers of its own where it has weights.

Forms: `picture` (B, C, H, W), `tokens` (B, L, F), `vector` (B, F).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (everybody's name for it)
from torch import nn

__all__ = ["STEPS", "Form", "Step", "Value"]

Form = str


@dataclass(frozen=True)
class Value:
    """What a step reads: its form and its shape without the batch."""

    form: Form
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """A module (or None) and what is done with it: `call(module, x)`."""

    name: str
    layer: nn.Module | None
    call: Callable[[Any, torch.Tensor], torch.Tensor]


Maker = Callable[[Random, Value], Step | None]  # None where the shape does not allow it
STEPS: dict[Form, list[Maker]] = {"picture": [], "tokens": [], "vector": []}


def step(*forms: Form) -> Callable[[Maker], Maker]:
    def register(maker: Maker) -> Maker:
        for form in forms:
            STEPS[form].append(maker)
        return maker

    return register


@step("picture")
def convolution(random: Random, value: Value) -> Step | None:
    channels, height, width = value.shape
    kernel = (random.choice((1, 2, 3)), random.choice((1, 3)))
    dilation, stride = (random.choice((1, 2)), random.choice((1, 2))), (random.choice((1, 1, 2)), random.choice((1, 1, 2)))
    groups = random.choice([g for g in (1, 2, channels) if channels % g == 0])
    outputs = groups * random.choice((1, 2, 3))
    padding: Any = (random.choice((0, 1)), random.choice((0, 1)))
    if random.random() < 0.3:
        padding, stride = "same", (1, 1)
    elif any(
        size + 2 * pad < reach * (k - 1) + 1 for size, pad, reach, k in zip((height, width), padding, dilation, kernel, strict=True)
    ):
        return None
    mode: Any = random.choice(("zeros", "zeros", "replicate", "circular")) if padding != "same" else "zeros"
    layer = nn.Conv2d(channels, outputs, kernel, stride, padding, dilation, groups, random.random() < 0.8, mode)
    return Step("conv", layer, lambda layer, x: layer(x))


@step("picture")
def transposed(random: Random, value: Value) -> Step | None:
    channels, height, width = value.shape
    if height * width > 64:
        return None
    kernel, stride = random.choice((2, 3)), random.choice((1, 2))
    return Step(
        "up", nn.ConvTranspose2d(channels, random.choice((2, 4)), kernel, stride, random.choice((0, 1))), lambda layer, x: layer(x)
    )


@step("picture")
def normalised(random: Random, value: Value) -> Step | None:
    channels = value.shape[0]
    groups = random.choice([g for g in (1, 2, channels) if channels % g == 0])
    if channels // groups * value.shape[1] * value.shape[2] < 4:
        return None
    return Step("norm", nn.GroupNorm(groups, channels), lambda layer, x: layer(x))


@step("picture", "tokens", "vector")
def activation(random: Random, value: Value) -> Step | None:
    kinds: list[Callable[[torch.Tensor], torch.Tensor]] = [
        F.silu, F.relu, F.gelu, torch.tanh, F.softplus, F.leaky_relu, F.selu, lambda x: x * torch.sigmoid(x),
        lambda x: x.clamp(-1, 1), lambda x: F.hardtanh(x),
        lambda x: x.clone().mul_(0.5).add_(1), lambda x: F.relu(x.clone(), inplace=True),
    ]  # fmt: skip
    kind = random.choice(kinds)
    return Step("act", None, lambda _, x: kind(x))


@step("picture")
def resized(random: Random, value: Value) -> Step | None:
    _, height, width = value.shape
    if height * width > 80:
        return Step("small", None, lambda _, x: F.interpolate(x, scale_factor=0.5, mode="nearest"))
    size = (random.randint(1, 9), random.randint(1, 9))
    random_corners = False  # drawn after the layers are listed, so that a seed gives the networks that it always gave
    modes = [
        lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
        lambda x: F.interpolate(x, size=size, mode="nearest"),
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=random_corners),
    ]
    random_corners, mode = random.random() < 0.5, random.choice(modes)
    return Step("size", None, lambda _, x: mode(x))


@step("picture")
def moved(random: Random, value: Value) -> Step | None:
    channels, height, width = value.shape
    places = [random.randrange(channels) for _ in range(random.randint(1, channels + 1))]
    kinds: list[Callable[[torch.Tensor], torch.Tensor]] = [
        lambda x: x[:, places], lambda x: x.flip(random_dims), lambda x: x.roll(1, 2), lambda x: torch.einsum("bchw->bcwh", x),
        lambda x: F.pad(x, (1, 0, 2, 1)), lambda x: torch.cat([x, x.flip(1)], 1), lambda x: x.transpose(2, 3).contiguous(),
        lambda x: x[..., ::2, :], lambda x: x.mean(1, keepdim=True).expand(-1, 2, -1, -1),
    ]  # fmt: skip
    if height > 1 and width > 1:
        kinds += [lambda x: F.pad(x, (1, 1, 1, 0), mode="reflect"), lambda x: F.max_pool2d(x, 2), lambda x: F.avg_pool2d(x, 2)]
    random_dims, kind = random.choice(([1], [2, 3], [3])), random.choice(kinds)
    return Step("move", None, lambda _, x: kind(x))


@step("picture")
def to_tokens(random: Random, value: Value) -> Step | None:
    if random.random() < 0.5:
        return Step("flat", None, lambda _, x: x.flatten(2).transpose(1, 2))
    return Step("flat", None, lambda _, x: x.permute(0, 2, 3, 1).contiguous().view(x.shape[0], -1, x.shape[1]))


@step("picture")
def to_vector(random: Random, value: Value) -> Step | None:
    kinds: list[Callable[[torch.Tensor], torch.Tensor]] = [
        lambda x: x.mean((2, 3)), lambda x: x.amax((2, 3)), lambda x: F.adaptive_max_pool2d(x, 1).flatten(1),
        lambda x: x.sum(-1)[:, :, 0], lambda x: torch.einsum("bchw->bc", x),
    ]  # fmt: skip
    kind = random.choice(kinds)
    return Step("pool", None, lambda _, x: kind(x))


@step("tokens", "vector")
def linear(random: Random, value: Value) -> Step | None:
    return Step("linear", nn.Linear(value.shape[-1], random.choice((3, 4, 6)), random.random() < 0.8), lambda layer, x: layer(x))


@step("tokens")
def attention(random: Random, value: Value) -> Step | None:
    width = value.shape[-1]
    heads = random.choice([h for h in (1, 2, 3) if width % h == 0])
    if random.random() < 0.5:
        layer = nn.MultiheadAttention(width, heads, batch_first=True)
        return Step("mix", layer, lambda layer, x: layer(x, x, x, need_weights=False)[0])
    layer = nn.MultiheadAttention(width, heads)
    return Step("mix", layer, lambda layer, x: layer(x.transpose(0, 1), x.transpose(0, 1), x.transpose(0, 1))[0].transpose(0, 1))


@step("tokens")
def scores(random: Random, value: Value) -> Step | None:
    return Step("scores", None, lambda _, x: torch.einsum("...ij,...kj->...ik", x, x).softmax(-1) @ x)


@step("tokens")
def across(random: Random, value: Value) -> Step | None:
    kernel = random.choice((1, 3))
    layer = nn.Conv1d(value.shape[-1], random.choice((3, 4)), kernel, padding=kernel // 2)
    return Step("across", layer, lambda layer, x: layer(x.transpose(1, 2)).transpose(1, 2))


@step("tokens", "vector")
def layer_normalised(random: Random, value: Value) -> Step | None:
    if value.shape[-1] < 2:
        return None
    return Step("norm", nn.LayerNorm(value.shape[-1]), lambda layer, x: layer(x))


@step("tokens")
def tokens_to_vector(random: Random, value: Value) -> Step | None:
    return Step("pool", None, random.choice((lambda _, x: x.mean(1), lambda _, x: x[:, -1], lambda _, x: x.amax(1))))
