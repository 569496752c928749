"""What is refused says what it is, shows the call and names a way out; no finding is left out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812  (everybody's name for it)

from hecompile.frontend.canonical.refusals import reasons
from tests.frontend.calls import Call, refusal_of

REFUSED: dict[str, tuple[str, Call]] = {
    "topk": ("depends on the order of values", lambda x: x.topk(2, 1)[0]),
    "sort": ("depends on the order of values", lambda x: x.sort(1)[0]),
    "median": ("depends on the order of values", lambda x: x.median(1)[0]),
    "argmax": ("depends on the order of values", lambda x: x.argmax(1)),
    "the places of a maximum": ("result 1 of max", lambda x: x.max(1)[1]),
    "the places of a pool": ("result 1 of max_pool2d_with_indices", lambda x: F.max_pool2d(x, 2, return_indices=True)[1]),
    "nonzero": ("size depends on values", lambda x: x.nonzero()),
    "unique": ("size depends on values", lambda x: x.unique()),
    "fft": ("computes with complex numbers", lambda x: torch.fft.fft2(x).real),
    "complex rotations": ("use_real=True", lambda x: torch.view_as_real(torch.view_as_complex(x.unflatten(3, (3, 2))))),
    "grid_sample": ("reads pixels at computed places", lambda x: F.grid_sample(x, x[:, :2].permute(0, 2, 3, 1))),
    "atan": ("without an operation of its own", lambda x: x.atan()),
    "cumprod": ("exp of a cumsum of logarithms", lambda x: x.cumprod(1)),
    "as_strided": ("use slices, reshape, permute or unfold", lambda x: x.as_strided((x.shape[0], 4, 3, 3), (144, 36, 12, 2))),
    "bits": ("use .to(dtype)", lambda x: x.view(torch.int32)),
    "bits of whole numbers": ("x % 2 in place of x & 1", lambda x: x.long() & 1),
    "inverse": ("solves a matrix", lambda x: torch.linalg.inv(x)),
    "embedding bag": ("use nn.Embedding and sum(1)", lambda x: F.embedding_bag(x[:, 0, 0].long(), torch.ones(5, 3))),
    "weights that are computed": ("do not compute them from inputs", lambda x: F.conv2d(x, x.mean(0, keepdim=True))),
    "a mean over the batch": ("reduce the other dimensions only", lambda x: x - x.mean()),
    "a running sum over the batch": ("treat all elements of the batch alike", lambda x: x.cumsum(0)),
    "padding of the batch": ("a multiple of the batch", lambda x: F.pad(x, (0, 0, 0, 0, 0, 0, 1, 0))),
    "the batch as a number": ("must not depend on the batch size", lambda x: x / x.shape[0]),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_says_what_helps(name: str) -> None:
    what, call = REFUSED[name]
    text = str(refusal_of(call, x=(2, 4, 6, 6)))
    assert what in text


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_every_finding_has_a_help(name: str) -> None:
    finding = refusal_of(REFUSED[name][1], x=(2, 4, 6, 6))
    assert finding is not None
    assert all(diagnostic.help for diagnostic in finding.diagnostics)


def test_findings_of_calls_with_several_results_show_the_call() -> None:
    assert "\n  topk(%mul, 2, 1, True, True)\n  ^^^^\n  help: " in str(refusal_of(lambda x: x.topk(2, 1)[0], x=(2, 4, 6, 6)))


@pytest.mark.parametrize("short", reasons())
def test_what_is_refused_by_name_is_a_call_of_torch(short: str) -> None:
    assert hasattr(torch.ops.aten, short)
