"""Initial noise is Gaussian, reproducible from secret bytes, and never from a seed that can be guessed."""

from __future__ import annotations

import math

import pytest
import torch

from hecompile.errors import CompileError
from hecompile.runtime.noise import secure_noise

SEED = bytes(range(32))


def test_noise_is_standard_normal() -> None:
    noise = secure_noise((4, 4, 64, 64), SEED).double()
    count = noise.numel()
    assert abs(float(noise.mean())) < 5 / math.sqrt(count)
    assert abs(float(noise.var()) - 1) < 5 * math.sqrt(2 / count)
    assert abs(float((noise**4).mean()) - 3) < 5 * math.sqrt(96 / count)
    below = torch.sort(noise.flatten()).values
    normal = (1 + torch.erf(below / 2**0.5)) / 2
    assert float((normal - (torch.arange(count) + 0.5) / count).abs().max()) < 2 / math.sqrt(count)  # Kolmogorov-Smirnov


@pytest.mark.promise("noise")
def test_the_same_bytes_give_the_same_noise_and_others_others() -> None:
    assert torch.equal(secure_noise((2, 3, 5), SEED), secure_noise((2, 3, 5), SEED))
    assert not torch.equal(secure_noise((2, 3, 5), SEED), secure_noise((2, 3, 5), SEED[::-1]))
    assert not torch.equal(secure_noise((2, 3, 5)), secure_noise((2, 3, 5)))


def test_halves_and_neighbours_are_independent() -> None:
    noise = secure_noise((2, 50_000), SEED).double()
    for one, two in ((noise[0], noise[1]), (noise[0, :-1], noise[0, 1:])):
        assert abs(float((one * two).mean())) < 5 / math.sqrt(50_000)


@pytest.mark.promise("noise")
@pytest.mark.parametrize(
    ("seed", "reason"),
    [(7, "an integer seed"), (torch.Generator().manual_seed(7), "a Generator"), ("text", "a str"), (b"short", "can be guessed")],
)
def test_seeds_that_can_be_guessed_are_refused(seed: object, reason: str) -> None:
    with pytest.raises(CompileError, match=f"edge noise -> sample.*{reason}|{reason}"):
        secure_noise((1, 2), seed)  # type: ignore[arg-type]
