"""einsum with one operand and with many, ellipses, letters that stand twice, sums over one operand alone."""

from __future__ import annotations

import pytest
import torch

from tests.frontend.calls import TOLERANCE, Call, Kind, refusal_of, waves

ONE = ("bchw->bhwc", "bchw->bc", "bchw", "bcii->bci", "bcii->bc", "bcii", " b c h w -> b h w c ", "BCHW->BHWC", "...hw->...wh",
       "b...->b...", "...->...", "bcHh->bchH", "...hw", "bchw->cbhw", "b...c->bc...", "bAaz")  # fmt: skip
TWO = ("...ij,...kj->...ik", "bchw,bdhw->bcd", "bchw,bchw->bchw", "bchw,bchw->b", "bchw,bcvw->bhv", "bchw,bxyw->bhc",
       "bchw,bxyz->bcx", "bchw,bxyz->bc", "bcii,bdii->bcd", "bcij,bcjk->bcik", "b...,b...->b...", "b...,b...->b", "...h,...h->...",
       "bhid,bhjd->bhij",
       "bchw,bchw->bwhc", "bi...,bj...->bij...", "bchw,bdwh->bcdhw", "bchw, bdhw -> b c d")  # fmt: skip
THREE = ("bchw,bdhw,bd->bc", "bchw,bd,bdhw->bc", "bchw,bd,bc->bhwd", "bchw,bd,bd->bc")


def of_one(equation: str) -> Call:
    return lambda x: torch.einsum(equation, x)


def of_two(equation: str) -> Call:
    return lambda x: torch.einsum(equation, x, 0.5 * x)


def of_three(equation: str) -> Call:
    parts = equation.split("->")[0].split(",")
    return lambda x: torch.einsum(equation, *(x.mean((2, 3)) if len(part) == 2 else x for part in parts))


CALLS: dict[str, Call] = {
    **{equation: of_one(equation) for equation in ONE},
    **{equation: of_two(equation) for equation in TWO},
    **{equation: of_three(equation) for equation in THREE},
    "patches put together": lambda x: torch.einsum("nhwpqc->nchpwq", x.reshape(x.shape[0], 2, 2, 3, 3, 4)),
    "weights": lambda x: torch.einsum("bchw,cd->bdhw", x, waves(4, 3)),
    "weights in front": lambda x: torch.einsum("dc,...chw->...dhw", waves(3, 4), x),
    "weights over everything": lambda x: torch.einsum("bchw,chwd->bd", x, waves(4, 6, 6, 3)),
    "weights per row": lambda x: torch.einsum("bchw,cdh->bdhw", x, waves(4, 3, 6)),
    "weights, one after the other": lambda x: torch.einsum("bchw,cd,de,fe->bfhw", x, waves(4, 3), waves(3, 5), waves(2, 5)),
    "heads": lambda x: torch.einsum("blc,chd->blhd", x.flatten(2).mT, waves(4, 2, 3)),
    "heads put together": lambda x: torch.einsum("blhd,hdc->blc", x.permute(0, 2, 1, 3), waves(4, 6, 3)),
    "a dimension of one": lambda x: torch.einsum("bchw,bchw->bhw", x, x[:, :1, :, :1]),
    "frequencies": lambda x: torch.einsum("b,f->bf", x[:, 0, 0, 0], torch.arange(6.0)),
    "lists of numbers": lambda x: torch.einsum(x, [0, 1, 2, 3], x, [0, 4, 2, 3], [0, 1, 4]),
    "tensordot": lambda x: torch.tensordot(x, waves(6, 6, 5), dims=2),
    "inner": lambda x: torch.inner(x, waves(3, 6)),
    "a matrix and a vector": lambda x: x.mean((2, 3)) @ waves(4) + x[:, 0, 0] @ waves(6),
    "a constant in front": lambda x: waves(5, 6) @ x,
    "bilinear": (lambda x, layer: layer(x, 2 * x), torch.nn.Bilinear(6, 6, 3)),
}

EINSUM = Kind(CALLS, quick=("bcii->bc", "...ij,...kj->...ik", "bchw,bdhw,bd->bc", "a dimension of one", "heads"), x=(2, 4, 6, 6))


@pytest.mark.parametrize("name", EINSUM.names)
def test_einsum_keeps_its_numbers(name: str) -> None:
    assert EINSUM.difference(name) <= TOLERANCE


@pytest.mark.slow
def test_canonical_einsum_stays_as_it_is() -> None:
    assert EINSUM.all.operations_again == EINSUM.all.operations


@pytest.mark.slow
def test_every_layer_of_an_einsum_reads_the_batch_in_front() -> None:
    assert not EINSUM.all.behind


@pytest.mark.slow
@pytest.mark.parametrize("equation", ["bchw->c", "bchw,bcvw->hv"])
def test_a_sum_over_the_batch_is_refused_with_a_way_out(equation: str) -> None:
    call = of_two(equation) if "," in equation else of_one(equation)
    assert "keep the batch among the indices of the result" in str(refusal_of(call, x=(2, 4, 6, 6)))
