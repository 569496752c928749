"""Tensors that are made of numbers, as long as the batch or not; and calls that draw numbers, which are refused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (everybody's name for it)
from torch import Tensor

from tests.frontend.calls import TOLERANCE, Call, Kind, refusal_of


def scores(x: Tensor) -> Tensor:
    """As plain attention processors compute them: beta is zero, what `empty` holds is not read."""
    blank = torch.empty(x.shape[0], 4, 4, dtype=x.dtype)
    return torch.baddbmm(blank, x.flatten(2), x.flatten(2).mT, beta=0, alpha=0.5)


def joined(x: Tensor) -> Tensor:
    out = torch.empty(x.shape[0], 8, 6, 6)
    out[:, :4] = x
    out[:, 4:] = x * 2
    return out


def table() -> Tensor:
    """Sines and cosines in turn, written in steps."""
    places = torch.zeros(6, 6)
    places[:, 0::2] = torch.arange(6.0)[:, None].sin()
    places[:, 1::2] = torch.arange(6.0)[:, None].cos()
    return places


CALLS: dict[str, Call] = {
    "empty scores": scores,
    "empty parts": joined,
    "empty_like": lambda x: torch.empty_like(x).copy_(2 * x),
    "beta of zero": lambda x: torch.addmm(torch.full((4,), float("nan")), x.mean((2, 3)), torch.eye(4), beta=0),
    "beta and alpha": lambda x: torch.addmm(torch.arange(4.0), x.mean((2, 3)), torch.eye(4), beta=0.5, alpha=2),
    "zeros, ones, full": lambda x: x * torch.zeros(x.shape[0], 1, 1, 1).add(2) + torch.ones(x.shape[0], 4, 1, 1),
    "full of whole numbers": lambda x: torch.full((x.shape[0], 1), 2) + x[:, :1, 0, 0].long(),
    "full of truths": lambda x: torch.where(torch.full((x.shape[0], 1, 1, 1), True), x, -x),
    "ones of truths": lambda x: torch.where(torch.ones(x.shape[0], 6, 6, dtype=torch.bool)[:, None], x, -x),
    "new_full": lambda x: x + x.new_full((x.shape[0], 4, 1, 1), 2) + x.new_ones(1, 4, 1, 1) + x.new_zeros(x.shape),
    "new_full of whole numbers": lambda x: x.long().new_full((x.shape[0], 4), 2) + x[..., 0, 0].long(),
    "several per element": lambda x: torch.cat([x.flatten(0, 1), torch.zeros(4 * x.shape[0], 1, 6)], 1),
    "full_like": lambda x: torch.full_like(x, 3) + torch.ones_like(x[:, 0], dtype=torch.int64)[:, None] + x,
    "ranges": lambda x: x + torch.arange(6) + torch.arange(2, 8) + torch.linspace(0, 1, 6) + torch.logspace(0, 1, 6),
    "single numbers": lambda x: x + torch.tensor(2.5) + torch.scalar_tensor(2.0),
    "triangles of ones": lambda x: x * torch.tril(torch.ones(6, 6)) + x * torch.triu(torch.ones(6, 6), 1) + torch.eye(6),
    "positions": lambda x: x + table(),
    "a token for all": lambda x: torch.cat([torch.ones(1, 1, 6).expand(x.shape[0], -1, -1), x[:, 0]], 1),
    "a token repeated": lambda x: torch.cat([torch.ones(1, 1, 6).repeat(x.shape[0], 1, 1), x[:, 0]], 1),
    "a row repeated": lambda x: torch.cat([torch.arange(3.0)[None].repeat(x.shape[0], 2), x[:, 0, 0]], 1),
    "a line repeated": lambda x: x.flatten(0, 1) + torch.arange(4.0).repeat(x.shape[0])[:, None, None],
    "all of a batch": lambda x: x[: x.shape[0]] * 2,
    "grids": lambda x: x + torch.stack(torch.meshgrid(torch.arange(6.0), torch.arange(6.0), indexing="ij")).sum(0),
    "broadcast": lambda x: sum(torch.broadcast_tensors(x, torch.arange(6.0))) + torch.broadcast_to(x[:, :1], x.shape),
    "dropout outside training": lambda x: F.dropout(x, 0.5, False) + F.dropout2d(x, 0.5, False) + F.alpha_dropout(x, 0.5, False),
}  # fmt: skip
FILLED = Kind(CALLS, quick=("empty scores", "full of truths", "several per element"), x=(2, 4, 6, 6))


@pytest.mark.parametrize("name", FILLED.names)
def test_a_filled_tensor_keeps_its_numbers(name: str) -> None:
    assert FILLED.difference(name) <= TOLERANCE


DRAWS: dict[str, Call] = {
    "rand": lambda x: x + torch.rand(6),
    "randn as long as the batch": lambda x: x + torch.randn(x.shape[0], 1, 1, 1),
    "randn_like": lambda x: x + torch.randn_like(x),
    "randint": lambda x: x + torch.randint(0, 3, (6,)),
    "randperm": lambda x: x[:, torch.randperm(4)],
    "normal": lambda x: x + torch.normal(0.0, 1.0, (6,)),
    "bernoulli": lambda x: x * torch.bernoulli(torch.full((6,), 0.5)),
    "dropout in training": lambda x: F.dropout(x, 0.5, True),
    "dropout of channels in training": lambda x: F.dropout2d(x, 0.5, True),
    "dropout of attention": lambda x: F.scaled_dot_product_attention(x, x, x, dropout_p=0.5),
    "rrelu in training": lambda x: F.rrelu(x, training=True),
    "gumbel": lambda x: F.gumbel_softmax(x, dim=1),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWS)
def test_a_call_that_draws_numbers_is_refused_with_a_way_out(name: str) -> None:
    text = str(refusal_of(DRAWS[name], x=(2, 4, 6, 6)))
    assert "draws random numbers" in text
    assert "call eval() before compiling" in text
