"""Reads and writes by constant places: lists, tensors, masks, steps, diagonals, windows, and what `gather` and `scatter` name."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (everybody's name for it)
from torch import Tensor, nn

from tests.frontend.calls import TOLERANCE, Call, Kind, refusal_of, waves

LOWER = torch.ones(6, 6).tril().bool()
ODD = torch.tensor([True, False, True, False])
BOTH = torch.tensor([2, 0])


def turned(x: Tensor, dim: int, places: Tensor, part: Tensor) -> Tensor:
    """A call that writes on a copy."""
    return x.clone().index_copy_(dim, places, part)


def written(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, [2, 0]] = 2 * x[:, [1, 3]]
    y[:, :, torch.tensor([0, 2]), torch.tensor([1, 3])] = x[:, :, 0, :2]
    y[:, [0, 2], 1] = x[:, :1, 0]
    y[:, :, [1, 3]] += torch.arange(6.0)
    return y


def filled(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, [0, 2]] = 1.5
    y[:, ODD, 2] = 0.0
    y[..., LOWER] = -1.0
    y[x > 1] = 0.25
    return y


def in_steps(x: Tensor) -> Tensor:
    y = torch.zeros(x.shape[0], 8, 6, 6)
    y[:, 1::2] = x
    y[:, ::2] = 2 * x
    y[:, :, -1:] = 0
    y[:, :, 0:5:3, 1:-1:2] = 5
    y[:, -1, ::2] = 1
    y[:, ::3] *= 2
    return y


def interleaved(x: Tensor) -> Tensor:
    y = x.new_empty(x.shape[0], 4, 12, 12)
    for row in (0, 1):
        for column in (0, 1):
            y[:, :, row::2, column::2] = x * (1 + row + 2 * column)
    return y


def apart(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return first - 3 * second


CALLS: dict[str, Call] = {
    "a list": lambda x: x[:, [2, 0, 1]],
    "a list of negative places": lambda x: x[..., [-1, 0]],
    "a tensor with repetitions": lambda x: x[:, torch.tensor([2, 0, 1, 1])],
    "a table of places": lambda x: x[:, torch.tensor([[0, 1], [2, 3]])],
    "one place": lambda x: x[:, torch.tensor(2)],
    "two neighbouring dimensions": lambda x: x[:, :, [0, 1, 2], [3, 4, 5]],
    "rows and columns": lambda x: x[:, :, torch.tensor([[0], [1]]), torch.tensor([3, 4, 5])],
    "two dimensions apart": lambda x: x[:, [0, 1], :, [3, 4]],
    "three dimensions": lambda x: x[:, [0, 1], [2, 2], [3, 4]],
    "a mask": lambda x: x[:, ~ODD],
    "a mask of two dimensions": lambda x: x[:, :, LOWER],
    "a buffer": (lambda x, norm: x[:, norm.running_mean.long()], nn.BatchNorm2d(3)),
    "triangular indices": lambda x: x[:, :, torch.tril_indices(6, 6)[0], torch.tril_indices(6, 6)[1]],
    "a constant table by computed rows": lambda x: waves(5, 6)[(0 * x[:, 0, 0] + 3).long()],
    "a constant row of numbers by computed places": lambda x: waves(5)[(0 * x[:, 0, 0] + 3).long()],
    "a table of position differences": lambda x: x + waves(11)[torch.arange(6)[:, None] - torch.arange(6) + 5],
    "index_select": lambda x: x.index_select(1, torch.tensor([3, 0, 0])),
    "narrow": lambda x: x.narrow(1, 1, 2) + x.narrow(-3, -2, 2),
    "repetitions by a list": lambda x: x.repeat_interleave(torch.tensor([1, 2, 0, 3]), dim=1),
    "flips": lambda x: x.flip(1) + x.flip([2, 3]) + torch.fliplr(x) + x.flip(-1),
    "turns": lambda x: x.rot90(1, (2, 3)) + torch.rot90(x, -1, [2, 3]) + torch.rot90(x, 2, [2, 3]),
    "rolls": lambda x: x.roll(3, 1) + x.roll((-1, 8), (2, 3)),
    "diagonals": lambda x: x.diagonal(0, 2, 3) + x.diagonal(0, -2, -1),
    "a diagonal beside": lambda x: x.diagonal(1, 2, 3),
    "a written diagonal": lambda x: x.diagonal_scatter(x[..., 0], 0, 2, 3),
    "a diagonal as a matrix": lambda x: x.mean(3).diag_embed(),
    "gather along one dimension": lambda x: x.gather(1, BOTH[None, :, None, None].expand(x.shape[0], 2, 6, 6)),
    "gather by a table": lambda x: x.gather(3, (torch.arange(36) % 6).reshape(6, 6).T.expand(x.shape[0], 4, 6, 6)),
    "gather of a part": lambda x: x.gather(3, torch.tensor([2, 0, 1]).expand(x.shape[0], 3, 5, 3)),
    "gather by a filled index": lambda x: x.gather(1, torch.zeros(x.shape[0], 1, 6, 6, dtype=torch.long) + 2),
    "scatter": lambda x: x.scatter(1, BOTH[None, :, None, None].expand(x.shape[0], 2, 6, 6), 2 * x[:, :2]),
    "scatter of a number": lambda x: x.scatter(1, BOTH[None, :1, None, None].expand(x.shape[0], 1, 6, 6), 1.0),
    "scatter that adds": lambda x: x.scatter_add(3, torch.tensor([2, 2, 0]).expand(x.shape[0], 4, 6, 3), x[..., :3]),
    "index_fill": lambda x: x.index_fill(1, BOTH, 3.0),
    "index_copy": lambda x: turned(x, 1, BOTH, 2 * x[:, 2:]),
    "index_add": lambda x: x.index_add(1, torch.tensor([2, 2]), x[:, 2:]),
    "writes of values": written,
    "writes of numbers": filled,
    "writes in steps": in_steps,
    "writes of every other entry": interleaved,
    "windows of a dimension": lambda x: x.unfold(2, 2, 2).unfold(3, 3, 1),
    "unfold": lambda x: F.unfold(x, (2, 3), stride=2, dilation=(2, 1)),
    "fold of what overlaps": (lambda x, there, back: back(there(x)), nn.Unfold(3, padding=1), nn.Fold((6, 6), 3, padding=1)),
    "shuffled pixels": lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 3),
    "shuffled channels": nn.ChannelShuffle(2),
    "halves of a batch": lambda x: apart(*torch.cat([x, 2 * x]).chunk(2)),
    "pieces of a batch": lambda x: torch.cat(torch.cat([x, x + 1, -x]).split(x.shape[0]), 1),
}  # fmt: skip
QUICK = ("a mask", "two dimensions apart", "gather by a table", "writes of values", "writes in steps", "fold of what overlaps")
PLACES = Kind(CALLS, quick=QUICK, x=(2, 4, 6, 6))


@pytest.mark.parametrize("name", PLACES.names)
def test_entries_by_places_keep_their_numbers(name: str) -> None:
    assert PLACES.difference(name) <= TOLERANCE


@pytest.mark.slow
def test_canonical_entries_stay_as_they_are() -> None:
    assert PLACES.all.operations_again == PLACES.all.operations


REFUSED: dict[str, tuple[str, Call]] = {
    "indices that are computed": ("make the indices a constant", lambda x: x.gather(1, (x > 0).long())),
    "elements of the batch": ("treat all elements of the batch alike", lambda x: x[[1, 0]]),
    "elements that are counted": ("x[:, place] in place of x[arange(batch), place]", lambda x: x[torch.arange(x.shape[0]), 1]),
    "a mask that is computed": ("torch.where(mask, x, 0)", lambda x: x[x > 0]),
    "a roll over everything": ("x.roll(shifts, dims)", lambda x: x.roll(3)),
    "a part of the batch": ("chunk(2)", lambda x: torch.cat([x, x])[: x.shape[0]]),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_of_places_names_the_line_and_a_way_out(name: str) -> None:
    way_out, call = REFUSED[name]
    text = str(refusal_of(call, x=(2, 4, 6, 6)))
    assert re.match(r"calls.py:\d+: error: ", text)
    assert way_out in text
