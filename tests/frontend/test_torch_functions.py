"""Functions of values that are made of others, statistics and norms, and layers of other kinds: as torch computes them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (everybody's name for it)
from torch import Tensor, nn

from tests.frontend.calls import TOLERANCE, Call, Kind, waves

torch.manual_seed(0)


def whole(x: Tensor) -> Tensor:
    return (10 * x).long()


def total(parts: Iterable[torch.Tensor]) -> Any:
    """Python's own sum, which begins with the number 0."""
    return sum(parts)


CALLS: dict[str, Call] = {
    "logarithms": lambda x: (x.abs() + 0.1).log2() + (x.abs() + 0.1).log10() + x.logaddexp(2 * x) + x.abs().xlogy(x.abs() + 1),
    "hyperbolic functions": lambda x: x.sinh() + x.cosh() + x.asinh() + (x.abs() + 1.5).acosh() + (0.9 * x.tanh()).atanh(),
    "rounded to decimals": lambda x: x.round(decimals=1) + (100 * x).round(decimals=-1),
    "signs": lambda x: torch.copysign(x, -x) + x.copysign(-1) + torch.heaviside(x, torch.tensor(0.5)) + x.sgn(),
    "what is no number": lambda x: torch.nan_to_num(x / (x > 0), 1.0, 2.0, -2.0) + torch.where(x.isnan() | x.isinf(), 0.0, x),
    "hypotenuse": lambda x: torch.hypot(x, 2 * x) + x.erfc(),
    "low threshold of softplus": lambda x: F.softplus(x, 2.0, 0.5) + F.softplus(30 * x, 1, 5),
    "scaled elu": lambda x: F.celu(x, 0.3) + F.elu(x, 0.4) + F.selu(x),
    "slopes": (lambda x, *layers: sum(layer(x) for layer in layers), nn.PReLU(), nn.PReLU(4), nn.RReLU(), nn.LeakyReLU(0.3)),
    "shrinking": lambda x: F.hardshrink(x, 0.3) + F.softshrink(x, 0.2) + F.tanhshrink(x) + F.threshold(x, 0.2, -3.0),
    "soft functions": lambda x: F.softsign(x) + F.logsigmoid(x) + F.mish(x) + F.hardswish(x) + F.hardsigmoid(x),
    "losses": lambda x: F.huber_loss(x, 2 * x, reduction="none") + F.mse_loss(x, x + 1, reduction="none"),
    "linear interpolation": lambda x: torch.lerp(x, 2 * x, 0.7) + torch.lerp(x, 2 * x, x.sigmoid()),
    "running sums": lambda x: x.cumsum(1) + x.cumsum(-1) + whole(x).cumsum(1) + (x > 0).cumsum(3),
    "products": lambda x: x.prod(1, keepdim=True) + x.prod(3, keepdim=True),
    "triangles": lambda x: x.tril() + x.triu(1) + x.tril(-1),
    "norms": lambda x: sum(torch.linalg.vector_norm(x, order, 1) for order in (0, 0.5, 1, 2, 3, float("inf"), -float("inf"))),
    "norms of matrices": lambda x: torch.linalg.matrix_norm(x) + x.norm(p="fro", dim=(2, 3)),
    "distances": lambda x: torch.cdist(x, x + 1) + torch.cdist(x, 2 * x, p=1),
    "likeness": lambda x: F.cosine_similarity(x, x.flip(1), 1) + F.cosine_similarity(x[:, :, None], x[:, :, :1, None], 1).mean(1),
    "spread": lambda x: x.var(1, unbiased=False, keepdim=True) + x.std((2, 3), correction=2, keepdim=True),
    "spread along the last": lambda x: x.var((-1, -2), keepdim=True) + x.std(-1, keepdim=True),
    "spread and mean": lambda x: total(torch.std_mean(x, (1, 2), correction=0)) + total(torch.var_mean(x, (1, 2))),
    "smallest and largest": lambda x: sum(torch.aminmax(x, dim=1)) + x.max(1)[0] - x.min(1)[0],
    "layer norm": lambda x: F.layer_norm(x, (4, 6, 6)) + F.layer_norm(x, (6,), waves(6), None),
    "root mean square norm": (lambda x, norm: norm(x) + torch.rms_norm(x, (6,), waves(6), 1e-6), nn.RMSNorm((6, 6), eps=1e-3)),
    "response norm": nn.LocalResponseNorm(2),
    "tracked instance norm": nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
    "recurrent": (lambda x, lstm: lstm(x[:, 0])[0], nn.LSTM(6, 3, batch_first=True, bidirectional=True)),
    "recurrent, tokens first": (lambda x, gru: gru(x[:, 0].transpose(0, 1))[0], nn.GRU(6, 3)),
    "attention of few keys": lambda x: F.scaled_dot_product_attention(x, x[:, :2], x[:, :2], enable_gqa=True),
    "causal attention of other keys": lambda x: F.scaled_dot_product_attention(x, x[:, :, :4], x[:, :, :4], is_causal=True),
    "differences": lambda x: x.diff(dim=1) + torch.trapezoid(x, dim=1)[:, None],
    "cross product": lambda x: torch.linalg.cross(x[:, :3], x[:, 1:], dim=1),
    "gated": lambda x: F.glu(x, 1) + F.glu(x, -3),
    "products and quotients added": lambda x: torch.addcdiv(x, x, x.abs() + 1, value=2) + torch.addcmul(x, x, x, value=0.3),
}  # fmt: skip
QUICK = ("low threshold of softplus", "running sums", "likeness")
FUNCTIONS = Kind(CALLS, quick=QUICK, x=(2, 4, 6, 6))


@pytest.mark.parametrize("name", FUNCTIONS.names)
def test_a_function_keeps_its_numbers(name: str) -> None:
    assert FUNCTIONS.difference(name) <= TOLERANCE


@pytest.mark.slow
def test_canonical_functions_stay_as_they_are() -> None:
    assert FUNCTIONS.all.operations_again == FUNCTIONS.all.operations
