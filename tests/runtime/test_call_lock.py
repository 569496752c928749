"""Several threads with one loaded model: every answer is right, or the call is refused at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hecompile
from hecompile.compiler import Compiled
from hecompile.runtime.call_lock import CallLock
from hecompile.runtime.client import EncryptedUNet, InputError
from tests.networks import tiny_inputs
from tests.sampling import artifact, load, make

LONGEST_S = 60.0  # after which a test says that a thread hangs


def in_threads(*tasks: Callable[[], object]) -> list[Any]:
    """What each task returned or raised, all started at once."""
    outcomes: list[Any] = [None] * len(tasks)
    together = threading.Barrier(len(tasks))

    def run(place: int, task: Callable[[], object]) -> None:
        together.wait()
        try:
            outcomes[place] = task()
        except Exception as error:  # handed to the test
            outcomes[place] = error

    threads = [threading.Thread(target=run, args=numbered, daemon=True) for numbered in enumerate(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONGEST_S)
        assert not thread.is_alive()
    return outcomes


@pytest.fixture
def unet(tiny: Compiled) -> EncryptedUNet:
    assert tiny.artifact is not None
    return hecompile.load(tiny.artifact)


def arguments(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "sample": torch.randn(2, 2, 4, 4, generator=generator),
        "timestep": torch.tensor(float(900 - seed)),
        "condition": torch.randn(2, 5, generator=generator),
    }


@pytest.mark.promise("threads")
@pytest.mark.fhe
def test_calls_of_several_threads_are_all_right(unet: EncryptedUNet) -> None:
    seeds = [range(start, start + 8) for start in (0, 8, 16)]
    expected = {seed: unet(**arguments(seed)) for some in seeds for seed in some}
    before = unet.meter.calls, unet.meter.requests

    def calls(some: Sequence[int]) -> dict[int, torch.Tensor]:
        return {seed: unet(**arguments(seed)) for seed in some}

    outcomes = in_threads(*(lambda some=some: calls(some) for some in seeds))
    for results in outcomes:
        assert isinstance(results, dict), results
        for seed, result in results.items():
            np.testing.assert_array_equal(result, expected[seed])
    assert unet.meter.calls - before[0] == 24
    assert unet.meter.requests - before[1] == 24 * 5


@pytest.mark.promise("threads")
def test_a_call_within_another_threads_run_is_refused_at_once(unet: EncryptedUNet) -> None:
    expected = unet(**tiny_inputs())
    with unet.run():
        unet(**tiny_inputs())
        sent = unet.meter.requests
        (outcome,) = in_threads(lambda: unet(**tiny_inputs()))
        assert isinstance(outcome, InputError)
        assert "has a run open" in str(outcome)
        assert unet.meter.requests == sent
        np.testing.assert_array_equal(unet(**tiny_inputs()), expected)
    (outcome,) = in_threads(lambda: unet(**tiny_inputs()))
    np.testing.assert_array_equal(outcome, expected)


def test_a_run_within_another_threads_run_is_refused_at_once(unet: EncryptedUNet) -> None:
    def second() -> None:
        with unet.run():
            unet(**tiny_inputs())

    with unet.run():
        (outcome,) = in_threads(second)
        assert isinstance(outcome, InputError)
    second()


def test_runs_do_not_nest(unet: EncryptedUNet) -> None:
    with unet.run():
        with pytest.raises(InputError, match="do not nest"), unet.run():
            pass
        unet(**tiny_inputs())  # the outer run goes on
    with unet.run():
        pass


@pytest.mark.promise("threads")
def test_several_threads_that_open_runs_are_right_or_refused(unet: EncryptedUNet) -> None:
    def run(seed: int) -> torch.Tensor:
        with unet.run():
            first = unet(**arguments(seed))
            second = unet(**arguments(seed))
        np.testing.assert_array_equal(first, second)
        return first

    expected = [unet(**arguments(seed)) for seed in range(3)]
    for result, right in zip(in_threads(*(lambda seed=seed: run(seed) for seed in range(3))), expected, strict=True):
        if not isinstance(result, InputError):
            np.testing.assert_array_equal(result, right)


def test_a_call_from_within_a_call_is_refused(unet: EncryptedUNet) -> None:
    unet.meter.observers.append(lambda region: unet(**tiny_inputs()))
    with pytest.raises(InputError, match="within one of its own calls"):
        unet(**tiny_inputs())
    unet.meter.observers.clear()
    unet(**tiny_inputs())


def test_closing_waits_for_the_call_that_is_under_way(unet: EncryptedUNet) -> None:
    expected = unet(**tiny_inputs())
    under_way, events = threading.Event(), list[str]()

    def note(region: str) -> None:
        events.append("request")
        under_way.set()

    unet.meter.observers.append(note)

    def close() -> None:
        assert under_way.wait(LONGEST_S)
        unet.close()
        events.append("closed")

    result, closed = in_threads(lambda: unet(**tiny_inputs()), close)
    assert closed is None
    np.testing.assert_array_equal(result, expected)
    assert events == ["request"] * 5 + ["closed"]


def test_a_model_that_reveals_belongs_to_the_first_thread() -> None:
    turns, ready, done = CallLock(one_thread=True), threading.Event(), threading.Event()

    def first() -> None:
        with turns.call():
            pass
        ready.set()
        assert done.wait(LONGEST_S)

    def second() -> None:
        assert ready.wait(LONGEST_S)
        try:
            with turns.call():
                pass
        finally:
            done.set()

    results = in_threads(first, second)
    assert results[0] is None
    assert isinstance(results[1], InputError)
    assert "belongs to the first thread" in str(results[1])
    with turns.call():  # that thread has ended
        pass


@pytest.mark.promise("threads")
def test_a_sampling_run_belongs_to_the_thread_that_set_its_timesteps(tmp_path: Path) -> None:
    artifact(tmp_path / "a", tau=0.0)
    scheduler = load(make("ddim"), tmp_path / "a")
    noise = scheduler.initial_noise(1)
    scheduler.set_timesteps(3)
    expected = scheduler.step(torch.zeros_like(noise), scheduler.timesteps[0], noise).prev_sample
    scheduler.set_timesteps(3)
    sent = scheduler.meter.requests
    (outcome,) = in_threads(lambda: scheduler.step(torch.zeros_like(noise), scheduler.timesteps[0], noise))
    assert isinstance(outcome, InputError)
    assert scheduler.meter.requests == sent
    np.testing.assert_array_equal(scheduler.step(torch.zeros_like(noise), scheduler.timesteps[0], noise).prev_sample, expected)

    def other() -> torch.Tensor:
        scheduler.set_timesteps(3)
        result: torch.Tensor = scheduler.step(torch.zeros_like(noise), scheduler.timesteps[0], noise).prev_sample
        return result

    (result,) = in_threads(other)
    np.testing.assert_array_equal(result, expected)
    with pytest.raises(InputError, match="has a run open"):
        scheduler.step(torch.zeros_like(noise), scheduler.timesteps[1], noise)
