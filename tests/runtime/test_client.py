"""`EncryptedUNet` as a module: arguments, batches, runs."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

import hecompile
from hecompile.compiler import Compiled, compile_model
from hecompile.options import CompileOptions
from hecompile.runtime.client import EncryptedUNet, InputError
from tests.networks import Tiny, tiny_inputs


@pytest.fixture
def unet(tiny_clear: Compiled) -> EncryptedUNet:
    assert tiny_clear.artifact is not None
    return hecompile.load(tiny_clear.artifact, policy="simulation")


def test_it_computes_the_model(unet: EncryptedUNet) -> None:
    inputs = tiny_inputs()
    with torch.no_grad():
        expected = Tiny().eval()(**inputs)
    assert (unet(**inputs) - expected).abs().max() < 0.02 * expected.abs().max()
    assert unet(**inputs, return_dict=False)[0].shape == expected.shape


def test_encrypted_equals_clear_bit_for_bit(unet: EncryptedUNet, tiny: Compiled) -> None:
    assert tiny.artifact is not None
    encrypted = hecompile.load(tiny.artifact)
    for batch in (1, 2, 3):
        np.testing.assert_array_equal(encrypted(**tiny_inputs(batch)), unet(**tiny_inputs(batch)))


def test_large_batches_are_cut_and_stay_the_same(unet: EncryptedUNet) -> None:
    inputs = tiny_inputs(7)
    together = unet(**inputs)
    alone = [unet(inputs["sample"][i : i + 1], inputs["timestep"], inputs["condition"][i : i + 1]) for i in range(7)]
    np.testing.assert_array_equal(together, torch.cat(alone))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sample": torch.zeros(2, 3, 4, 4)}, "shape"),
        ({"sample": torch.zeros(0, 2, 4, 4)}, "at least one"),
        ({"timestep": torch.tensor([1.0, 2.0])}, "differs within the batch"),
        ({"timestep": torch.tensor(float("nan"))}, "not a number"),
        ({"condition": torch.zeros(1, 5)}, "shape"),
        ({"condition": None}, "missing arguments"),
        ({"mask": torch.zeros(1)}, "not compiled in"),
    ],
)
def test_arguments_that_do_not_fit(unet: EncryptedUNet, change: dict[str, object], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        unet(**(tiny_inputs() | change))


@pytest.mark.parametrize("timestep", [31, 31.0, torch.tensor(31), torch.tensor([31.0, 31.0])])
def test_a_timestep_may_be_written_in_many_ways(unet: EncryptedUNet, timestep: object) -> None:
    inputs = tiny_inputs()
    np.testing.assert_array_equal(unet(**inputs | {"timestep": timestep}), unet(**inputs))


def requests(unet: EncryptedUNet, *times: float) -> list[int]:
    counts = []
    for t in times:
        before = unet.meter.requests
        unet(**tiny_inputs() | {"timestep": t})
        counts.append(unet.meter.requests - before)
    return counts


def test_conditions_are_sent_with_every_call(unet: EncryptedUNet) -> None:
    """4 regions each step, and the condition's own."""
    assert requests(unet, 900, 800, 700) == [5, 5, 5]


def test_conditions_are_sent_once_a_run(unet: EncryptedUNet) -> None:
    with unet.run():
        assert requests(unet, 900, 800, 800, 900) == [5, 4, 4, 4]
    assert requests(unet, 500) == [5]


def test_two_conditions_called_in_turn_are_each_used(unet: EncryptedUNet) -> None:
    """As guidance in two calls, or a prompt that travels, does it while t falls."""
    first, second = tiny_inputs()["condition"], torch.ones(2, 5)
    for t in (900.0, 800.0):
        for value in (first, second):
            expected = Tiny().eval()(**tiny_inputs() | {"condition": value, "timestep": torch.tensor(t)})
            result = unet(**tiny_inputs() | {"condition": value, "timestep": t})
            assert (result - expected).abs().max() < 0.02 * expected.abs().max()


def test_a_batch_that_shrinks_within_a_run_sends_its_conditions_once_more(unet: EncryptedUNet) -> None:
    """Guidance that is turned off halfway."""
    with unet.run():
        assert requests(unet, 900, 800) == [5, 4]
        before = unet.meter.requests
        unet(**tiny_inputs(1) | {"timestep": 700})
        assert unet.meter.requests - before == 5


def test_another_condition_in_a_new_run_is_used(unet: EncryptedUNet) -> None:
    first = unet(**tiny_inputs())
    other = unet(**tiny_inputs() | {"condition": torch.ones(2, 5)})
    assert (first - other).abs().max() > 0.01


def test_another_condition_within_a_run_is_an_error_at_that_call(unet: EncryptedUNet) -> None:
    with unet.run():
        requests(unet, 900)
        before = unet.meter.requests
        with pytest.raises(InputError, match=r"condition changed within unet.run\(\).* outside run\(\)"):
            unet(**tiny_inputs() | {"condition": torch.ones(2, 5), "timestep": 800.0})
        assert unet.meter.requests == before
        assert requests(unet, 700) == [4]


def test_a_run_that_ends_in_an_error_is_over(unet: EncryptedUNet) -> None:
    def broken() -> None:
        with unet.run():
            requests(unet, 900)
            raise KeyError

    with pytest.raises(KeyError):
        broken()
    assert requests(unet, 800) == [5]


def test_values_that_are_not_finite_are_reported_at_the_end(unet: EncryptedUNet, caplog: pytest.LogCaptureFixture) -> None:
    broken = tiny_inputs() | {"sample": torch.full((2, 2, 4, 4), float("nan"))}
    with caplog.at_level(logging.WARNING, "hecompile"):
        unet(**broken)
    assert "NaN" in caplog.text
    with pytest.raises(InputError, match="is not usable"), unet.run():
        unet(**broken)


def test_the_log_never_holds_a_value(unet: EncryptedUNet, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        unet(**tiny_inputs())
    assert "tensor" not in caplog.text
    assert "array" not in caplog.text


def test_timesteps_may_be_integers_outside_a_run(tmp_path: Path) -> None:
    inputs = tiny_inputs() | {"timestep": torch.tensor(31)}
    compile_model(Tiny().eval(), tmp_path / "tiny.he", options=CompileOptions(max_batch=2), example_inputs=inputs)
    unet = hecompile.load(tmp_path / "tiny.he")
    first, second = (unet(**inputs | {"timestep": torch.tensor(value)}) for value in (31, 7))
    assert first.shape == second.shape
    assert not torch.equal(first, second)
