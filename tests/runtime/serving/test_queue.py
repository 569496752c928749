"""The queue: one turn at a time, in a fair order, and only as long as its requests take."""

from __future__ import annotations

import asyncio
import time

import pytest

from hecompile.runtime.serving.queue import LEAST_PLACES, FairQueue
from hecompile.runtime.serving.refusals import RefusalError


def full(queue: FairQueue) -> bool:
    """Whether a request that comes now is sent away."""
    try:
        queue.check()
    except RefusalError:
        return True
    return False


async def _order(queue: FairQueue, comers: list[tuple[str, str]]) -> list[str]:
    """Who had a turn, one after the other; each name begins with the name of its client."""
    order = list[str]()

    async def come(client_id: str, name: str) -> None:
        turn = await queue.turn(client_id, "region")
        order.append(name)
        await asyncio.sleep(0.01)
        queue.leave(turn)

    await asyncio.gather(*(come(client_id, name) for client_id, name in comers))
    return order


def test_one_owner_is_served_in_order() -> None:
    comers = [("a", f"a{number}") for number in range(5)]
    assert asyncio.run(_order(FairQueue(100), comers)) == [name for _, name in comers]


def test_several_owners_take_turns() -> None:
    comers = [*[("a", f"a{number}") for number in range(4)], ("b", "b0"), ("b", "b1")]
    names = asyncio.run(_order(FairQueue(100), comers))
    assert names[:2] == ["a0", "b0"]
    assert sorted(names[2:4]) == ["a1", "b1"]


def test_the_length_follows_from_what_requests_took() -> None:
    async def lengths(seconds: float) -> int:
        queue = FairQueue(10.5 * seconds)  # no whole number of requests, so that a moment makes no difference
        turn = await queue.turn("a", "region")
        turn.began -= seconds
        queue.leave(turn)
        waiting = []
        while not full(queue):
            waiting.append(asyncio.ensure_future(queue.turn("a", "region")))
            await asyncio.sleep(0)
        with pytest.raises(RefusalError, match="are waiting already"):
            queue.check()
        for task in waiting:
            task.cancel()
        return len(waiting)

    assert 10 <= asyncio.run(lengths(0.2)) <= 13
    assert 10 <= asyncio.run(lengths(5.0)) <= 13


def test_a_few_may_always_wait() -> None:
    async def places() -> int:
        queue = FairQueue(0.001)
        waiting = [asyncio.ensure_future(queue.turn("a", "region"))]
        await asyncio.sleep(0)
        while not full(queue):
            waiting.append(asyncio.ensure_future(queue.turn("a", "region")))
            await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        return queue.length

    assert asyncio.run(places()) == LEAST_PLACES


@pytest.mark.parametrize("moment", ["waiting", "given"])
def test_a_place_that_is_given_up_passes_the_turn_on(moment: str) -> None:
    async def goes_on() -> bool:
        queue = FairQueue(100)
        first = await queue.turn("a", "region")
        second = asyncio.ensure_future(queue.turn("a", "region"))
        third = asyncio.ensure_future(queue.turn("b", "region"))
        await asyncio.sleep(0)
        if moment == "given":
            queue.leave(first)
            second.cancel()
            third.cancel() if third.done() else None
        else:
            second.cancel()
            await asyncio.sleep(0)
            queue.leave(first)
        await asyncio.wait({second, third}, timeout=1)
        assert queue.length == 0
        last = third.result() if third.done() and not third.cancelled() else None
        if last is not None:
            queue.leave(last)
        return queue.expected_s == 0

    assert asyncio.run(goes_on())


def test_a_closed_queue_sends_everybody_away() -> None:
    async def closed() -> None:
        queue = FairQueue(100)
        turn = await queue.turn("a", "region")
        waiting = asyncio.ensure_future(queue.turn("a", "region"))
        await asyncio.sleep(0)
        queue.close()
        with pytest.raises(RefusalError, match="being stopped"):
            await waiting
        with pytest.raises(RefusalError, match="being stopped"):
            await queue.turn("b", "region")
        queue.leave(turn)

    asyncio.run(closed())


def test_use_is_forgotten() -> None:
    """Nothing is kept of clients that used little, or long ago."""

    async def used() -> int:
        queue = FairQueue(100)
        for client_id in map(str, range(100)):
            turn = await queue.turn(client_id, "region")
            turn.began -= 0.0001
            queue.leave(turn)
        return len(queue._used)

    assert asyncio.run(used()) <= 1


def test_the_running_evaluation_counts_with_what_is_left_of_it() -> None:
    async def expected() -> float:
        queue = FairQueue(100)
        turn = await queue.turn("a", "region")
        turn.began = time.monotonic() - 4
        queue.leave(turn)
        turn = await queue.turn("a", "region")
        turn.began -= 3
        return queue.expected_s

    assert 0.5 < asyncio.run(expected()) < 1.5


def test_thousands_that_give_up_at_once_break_nothing() -> None:
    """The turn ends at the moment when all that wait are sent away, and none of them has noticed."""

    async def ends() -> int:
        queue = FairQueue(100_000)
        turn = await queue.turn("a", "region")
        waiting = [asyncio.ensure_future(queue.turn("a", "region")) for _ in range(3000)]
        await asyncio.sleep(0)
        queue.close()
        queue.leave(turn)
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        return sum(isinstance(outcome, RefusalError) for outcome in outcomes)

    assert asyncio.run(ends()) == 3000


def test_an_owner_waits_for_those_who_have_used_less() -> None:
    """By hand: a has used 10 s and b none; three requests of a, two of b wait, one second each."""

    async def expected() -> tuple[float, float, float]:
        queue = FairQueue(100)
        for client_id, seconds in (("x", 1.0), ("a", 10.0)):
            turn = await queue.turn(client_id, "region")
            turn.began -= seconds
            queue.leave(turn, measured=client_id == "x")
        running = await queue.turn("x", "region")
        running.began -= 1.0
        waiting = [asyncio.ensure_future(queue.turn(client_id, "region")) for client_id in "aaabb"]
        await asyncio.sleep(0)
        expectations = queue.expected_for("a"), queue.expected_for("b"), queue.expected_for("new")
        for task in waiting:
            task.cancel()
        return expectations

    busy, calm, new = asyncio.run(expected())
    assert busy == pytest.approx(5.0, abs=0.1)
    assert calm == pytest.approx(2.0, abs=0.1)
    assert new == pytest.approx(0.0, abs=0.1)
