"""Attention and transformers of torch, batch or tokens first: every linear layer reads the batch in front."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.frontend.calls import TOLERANCE, Call, Kind

torch.manual_seed(0)
LATER = torch.ones(5, 5).triu(1).bool()  # what a token must not see


def attention(**options: object) -> nn.MultiheadAttention:
    layer = nn.MultiheadAttention(8, 2, **options)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.3)
    return layer


def of_itself(**options: object) -> Callable[..., Tensor]:
    """Attention of x to itself, tokens first or not as the layer says."""

    def call(x: Tensor, y: Tensor, layer: nn.MultiheadAttention) -> Tensor:
        tokens = x if layer.batch_first else x.transpose(0, 1)
        result, _ = layer(tokens, tokens, tokens, **options)
        return result if layer.batch_first else result.transpose(0, 1)

    return call


def of_other(**options: object) -> Callable[..., Tensor]:
    """Attention of x to y."""

    def call(x: Tensor, y: Tensor, layer: nn.MultiheadAttention) -> Tensor:
        query, key = (x, y) if layer.batch_first else (x.transpose(0, 1), y.transpose(0, 1))
        result, _ = layer(query, key, key, **options)
        return result if layer.batch_first else result.transpose(0, 1)

    return call


def hidden(x: Tensor, y: Tensor, layer: nn.MultiheadAttention) -> Tensor:
    return layer(x, x, x, key_padding_mask=x[..., 0] > 1.5, attn_mask=LATER.roll(2, 0), need_weights=False)[0]


def weights(average: bool) -> Callable[..., Tensor]:
    return lambda x, y, layer: layer(x, x, x, average_attn_weights=average)[1]


def stacked(x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
    return layer(x)


def stacked_tokens_first(x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
    return layer(x.transpose(0, 1)).transpose(0, 1)


def masked(x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
    """Whether the mask is causal is left to the layer, which looks at its values."""
    return layer(x, mask=LATER)


def padded(x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
    return layer(x, src_key_padding_mask=x[..., 0] > 1.5)


def two(x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
    return layer(x, y @ torch.ones(6, 8) / 6)


def two_tokens_first(x: Tensor, y: Tensor, layer: nn.Module) -> Tensor:
    return layer(x.transpose(0, 1), (y @ torch.ones(6, 8) / 6).transpose(0, 1)).transpose(0, 1)


def rows_first(x: Tensor, y: Tensor, layer: nn.Linear) -> Tensor:
    """Rows that are tokens first, then elements of the batch."""
    return layer(x.transpose(0, 1).reshape(-1, 8)).view(5, -1, 6).transpose(0, 1)


def grid_first(x: Tensor, y: Tensor, layer: nn.Linear) -> Tensor:
    grid = x[..., None].permute(1, 3, 0, 2).expand(5, 3, -1, 8)  # (L, 3, B, E)
    return layer(grid).sum(1).transpose(0, 1)


def pictures_of_frames(x: Tensor, y: Tensor, layer: nn.Conv2d) -> Tensor:
    """Frames before the batch, as pictures."""
    frames = x.unflatten(2, (1, 2, 4)).transpose(0, 1)  # (L, B, 1, 2, 4)
    return layer(frames.flatten(0, 1)).unflatten(0, (5, -1)).transpose(0, 1)


CALLS: dict[str, Call] = {
    "attention": (of_itself(need_weights=False), attention(batch_first=True)),
    "attention with its weights": (of_itself(), attention(batch_first=True)),
    "attention, tokens first": (of_itself(need_weights=False), attention()),
    "attention, tokens first, with its weights": (of_itself(), attention()),
    "attention without a bias": (of_itself(need_weights=False), attention(batch_first=True, bias=False)),
    "attention with a bias as a token": (of_itself(), attention(batch_first=True, add_bias_kv=True)),
    "attention with a bias as a token, tokens first": (of_itself(), attention(add_bias_kv=True)),
    "attention with a token of zeros": (of_itself(need_weights=False), attention(batch_first=True, add_zero_attn=True)),
    "attention with a mask": (of_itself(attn_mask=LATER, need_weights=False), attention(batch_first=True)),
    "attention with a mask of numbers": (of_itself(attn_mask=-10.0 * LATER), attention()),
    "causal attention": (of_itself(attn_mask=LATER, is_causal=True, need_weights=False), attention()),
    "attention with hidden tokens": (hidden, attention(batch_first=True)),
    "the weights": (weights(True), attention(batch_first=True)),
    "the weights of every head": (weights(False), attention(batch_first=True)),
    "attention to others": (of_other(need_weights=False), attention(batch_first=True, kdim=6, vdim=6)),
    "attention to others with its weights": (of_other(), attention(batch_first=True, kdim=6, vdim=6)),
    "attention to others, tokens first": (of_other(need_weights=False), attention(kdim=6, vdim=6)),
    **{
        f"an encoder's layer, {order}, {activation}": (
            stacked,
            nn.TransformerEncoderLayer(8, 2, 16, activation=activation, norm_first=order == "norm first", batch_first=True),
        )
        for order in ("norm first", "norm last") for activation in ("relu", "gelu")
    },
    "an encoder's layer, tokens first": (stacked_tokens_first, nn.TransformerEncoderLayer(8, 2, 16)),
    "an encoder": (stacked, nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)),
    "an encoder, tokens first": (
        stacked_tokens_first, nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2, norm=nn.LayerNorm(8)),
    ),
    "an encoder with a mask": (masked, nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)),
    "an encoder with hidden tokens": (
        padded, nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1, enable_nested_tensor=False),
    ),
    "a decoder's layer": (two, nn.TransformerDecoderLayer(8, 2, 16, batch_first=True)),
    "a decoder's layer, tokens first, norm first": (two_tokens_first, nn.TransformerDecoderLayer(8, 2, 16, norm_first=True)),
    "a transformer": (two, nn.Transformer(8, 2, 1, 1, 16, batch_first=True)),
    "a transformer, tokens first": (two_tokens_first, nn.Transformer(8, 2, 1, 1, 16)),
    "rows of tokens": (rows_first, nn.Linear(8, 6)),
    "a grid before the batch": (grid_first, nn.Linear(8, 6)),
    "frames before the batch": (pictures_of_frames, nn.Conv2d(1, 3, 2)),
}  # fmt: skip
QUICK = ("attention, tokens first", "attention with a token of zeros", "rows of tokens", "frames before the batch")
TOKENS = Kind(CALLS, quick=QUICK, x=(2, 5, 8), y=(2, 3, 6))


@pytest.mark.parametrize("name", TOKENS.names)
def test_a_transformer_keeps_its_numbers(name: str) -> None:
    assert TOKENS.difference(name) <= TOLERANCE


def test_every_layer_of_tokens_first_reads_the_batch_in_front() -> None:
    assert not TOKENS.few.behind


@pytest.mark.slow
def test_every_layer_of_a_transformer_reads_the_batch_in_front() -> None:
    assert not TOKENS.all.behind


@pytest.mark.slow
def test_canonical_transformers_stay_as_they_are() -> None:
    assert TOKENS.all.operations_again == TOKENS.all.operations
