"""Several evaluations at a time: as many turns as there are places, in the same fair order, each in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from hecompile.buffers import Buffer
from hecompile.runtime.serving.evaluations import Evaluations, Work
from hecompile.runtime.serving.limits import Limits
from hecompile.runtime.serving.queue import FairQueue


def nothing() -> None:
    return None


async def _most_at_once(queue: FairQueue, comers: int) -> int:
    most = 0

    async def come(client_id: str) -> None:
        nonlocal most
        turn = await queue.turn(client_id, "region")
        most = max(most, queue.running)
        await asyncio.sleep(0.01)
        queue.leave(turn)

    await asyncio.gather(*(come(str(place % 2)) for place in range(comers)))
    assert queue.running == 0
    return most


@pytest.mark.parametrize("places", [1, 2, 3])
def test_there_are_as_many_turns_as_places(places: int) -> None:
    assert asyncio.run(_most_at_once(FairQueue(100, places), 8)) == places


def test_who_has_used_least_is_next_also_with_several_places() -> None:
    async def order() -> list[str]:
        queue, served = FairQueue(100, 2), list[str]()

        async def come(client_id: str, name: str) -> None:
            turn = await queue.turn(client_id, "region")
            served.append(name)
            await asyncio.sleep(0.01)
            queue.leave(turn)

        await asyncio.gather(*(come(name[0], name) for name in ("a0", "a1", "a2", "a3", "b0", "b1")))
        return served

    names = asyncio.run(order())
    assert names[:2] == ["a0", "a1"]
    assert set(names[2:4]) == {"b0", "b1"}  # b used nothing while a had both places


def test_what_waits_takes_a_share_of_the_time_with_more_places() -> None:
    async def expected(places: int) -> float:
        queue = FairQueue(100, places)
        turn = await queue.turn("a", "region")
        turn.began -= 4.0
        queue.leave(turn)
        running = [await queue.turn("a", "region") for _ in range(places)]
        waiting = [asyncio.ensure_future(queue.turn("a", "region")) for _ in range(6)]
        await asyncio.sleep(0)
        expectations = queue.expected_s, queue.expected_for("a")
        for task in waiting:
            task.cancel()
        assert len(running) == places
        assert expectations[0] == pytest.approx(expectations[1], rel=0.01)
        return expectations[0]

    assert asyncio.run(expected(1)) == pytest.approx(28, rel=0.02)
    assert asyncio.run(expected(2)) == pytest.approx(16, rel=0.02)


def test_a_turn_that_is_given_up_at_the_moment_it_comes_frees_its_place() -> None:
    async def goes_on() -> int:
        queue = FairQueue(100, 2)
        held = [await queue.turn("a", "region") for _ in range(2)]
        second = asyncio.ensure_future(queue.turn("a", "region"))
        await asyncio.sleep(0)
        queue.leave(held[0])
        second.cancel()
        await asyncio.wait({second})
        return queue.running

    assert asyncio.run(goes_on()) == 1


def _evaluated(places: int, run: Callable[[], bytes], count: int) -> list[Buffer]:
    async def answers() -> list[Buffer]:
        queue = FairQueue(100, places)
        evaluations = Evaluations(Limits(), queue, lambda seconds: None, nothing)
        work = [evaluations.start(None, str(place), "region", Work(run, nothing, nothing)) for place in range(count)]
        return list(await asyncio.gather(*(evaluation.task for evaluation in work)))

    return asyncio.run(answers())


def test_evaluations_of_several_places_run_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=10)

    def meet() -> bytes:
        meeting.wait()  # of another one, which runs meanwhile
        return b"met"

    assert _evaluated(2, meet, 4) == [b"met"] * 4


def test_evaluations_of_one_place_do_not() -> None:
    at_once, most, lock = 0, 0, threading.Lock()

    def count() -> bytes:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.01)
        with lock:
            at_once -= 1
        return b""

    _evaluated(1, count, 4)
    assert most == 1


def test_closing_gives_up_all_that_runs() -> None:
    async def cancelled() -> int:
        begun, given_up = threading.Barrier(3, timeout=10), threading.Event()
        counted = list[None]()

        def work() -> bytes:
            begun.wait()
            given_up.wait(10)
            return b""

        def cancel() -> None:
            counted.append(None)
            given_up.set()

        evaluations = Evaluations(Limits(), FairQueue(100, 2), lambda seconds: None, nothing)
        tasks = [evaluations.start(None, str(place), "region", Work(work, cancel, nothing)).task for place in range(2)]
        await asyncio.to_thread(begun.wait)
        evaluations.close()
        await asyncio.wait(tasks, timeout=10)
        assert all(task.cancelled() for task in tasks)
        return len(counted)

    assert asyncio.run(cancelled()) == 2
