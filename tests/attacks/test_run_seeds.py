"""Calls that share public seeds on the wire: which requests the server can connect, and that they have nothing else in common."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hecompile.backends.bfv.messages import FIRST, LATER
from hecompile.runtime.bundle import load_bundle
from hecompile.runtime.client import EncryptedUNet
from tests.attacks.test_traffic import Wiretap, latent, looks_uniform, parse

pytestmark = pytest.mark.fhe


class Modes:
    """A digits model on a tapped wire."""

    def __init__(self, folder: Path) -> None:
        self.tap = Wiretap(folder)
        self.unet = EncryptedUNet(load_bundle(folder), self.tap)

    def call(self, t: float, batch: int = 1) -> tuple[set[int], list[bytes]]:
        """The modes of a call's requests, those of the conditions left out, and their payloads."""
        before = len(self.tap.seen)
        self.unet(latent("noise").repeat(batch, 1, 1, 1), t, class_labels=torch.full((batch,), 7))
        payloads = [parse(body)[1] for _, region, body in self.tap.seen[before:] if region.startswith("call_")]
        return {payload[0] for payload in payloads}, payloads


@pytest.fixture
def modes(digits: Path) -> Modes:
    return Modes(digits)


def test_calls_go_on_with_a_run_as_long_as_timesteps_do_not_rise(modes: Modes) -> None:
    seen = [modes.call(t)[0] for t in (900.0, 600.0, 600.0, 0.0, 900.0, 300.0)]
    assert seen == [{FIRST}, {LATER}, {LATER}, {LATER}, {FIRST}, {LATER}]


def test_a_run_has_seeds_of_its_own(modes: Modes) -> None:
    modes.call(900.0)
    with modes.unet.run():
        assert [modes.call(t)[0] for t in (600.0, 800.0)] == [{FIRST}, {LATER}]  # also where its timesteps rise
    assert modes.call(300.0)[0] == {FIRST}


def test_another_batch_and_a_long_run_begin_anew(modes: Modes) -> None:
    assert [modes.call(900.0 - place)[0] for place in range(26)] == [{FIRST}, *[{LATER}] * 24, {FIRST}]
    assert modes.call(100.0, 2)[0] == {FIRST}


@pytest.mark.promise("unrelated")
def test_later_requests_are_uniform_and_fresh(modes: Modes) -> None:
    """The same picture three times under the same public polynomials: the words have no byte in common but by chance."""
    _, *later = [modes.call(900.0 - place)[1] for place in range(3)]
    for one, two in zip(*later, strict=True):
        assert len(one) == len(two)
        first, second = (np.frombuffer(payload[1:], np.uint8) for payload in (one, two))
        assert abs(float((first == second).mean()) - 1 / 256) < 6 * (1 / 256 / len(first)) ** 0.5
    looks_uniform((np.frombuffer(b"".join(payload[1:] for call in later for payload in call), np.uint8) + 0.5) / 256)


def test_pictures_are_the_same_in_a_run_and_alone(modes: Modes, digits_clear: Path) -> None:
    """What later requests are answered is read with the first one's `a`: the bits are those of `clear`."""
    clear = EncryptedUNet(load_bundle(digits_clear, "simulation"), Wiretap(digits_clear))
    for t in (700.0, 500.0, 300.0):
        with torch.no_grad():
            got, want = (unet(latent("noise"), t, class_labels=torch.tensor([3])).sample for unet in (modes.unet, clear))
        assert torch.equal(got, want)
